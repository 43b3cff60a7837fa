// Gives a name to the buttons that dismiss messages, which are Panel's and have none. On a page of our own only.
function nameMessages(model) {
  if (model.foreign) return
  const name = () => {
    for (const button of document.querySelectorAll(".notyf__dismiss-btn:not([aria-label])")) {
      button.setAttribute("aria-label", "dismiss the message")
    }
  }
  const watch = new MutationObserver(name)
  watch.observe(document.body, {childList: true, subtree: true})
  model.on("remove", () => watch.disconnect())
}
