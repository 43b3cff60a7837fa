// Applies an update of the server. `parts` holds a function of each pane; they get the news and the models of the panes.
export default (models) => {
  const {page} = models
  if (!page.news) return
  const news = JSON.parse(page.news)
  const state = (page._shown ??= {number: 0})
  // a script runs after its message, the first time after its compilation: a second message may overtake it
  if (news.number === state.number) return
  if (news.number !== state.number + 1) page.missed += 1
  state.number = news.number
  for (const part of parts) part(news, models, (model, changes) => model.setv(changes, {sync: false}))
}
