"""Lua scripts, which Redis runs atomically."""

from __future__ import annotations

__all__ = ["APPEND", "LEASE", "OWNING", "RELEASE", "REPORT", "SPAN", "STATE"]

OWNING = frozenset(("start", "descriptor", "resource", "stream_resource"))


APPEND = """
local holder = ARGV[1] ~= '' and redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[1] then return false end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('SET', KEYS[5], ARGV[2], 'NX')
else
  redis.call('SET', KEYS[5], ARGV[2])
end
local cursors, runs = {}, {}
for i = 3, #ARGV, 5 do
  local run, uid = ARGV[i + 1], ARGV[i + 4]
  local cursor = redis.call('XADD', KEYS[1], '*', 'name', ARGV[i], 'run', run, 'task', ARGV[i + 2], 'doc', ARGV[i + 3])
  cursors[#cursors + 1] = cursor
  if run ~= '' then
    local known = runs[run] or {first = cursor, entries = 0}
    known.last, known.entries = cursor, known.entries + 1
    runs[run] = known
    if uid ~= '' then
      redis.call('HSET', KEYS[2], uid, run)
      redis.call('SADD', 'snakemap:owned:' .. run, uid)
    end
  end
end
for run, known in pairs(runs) do
  local key = 'snakemap:run:' .. run
  redis.call('HSETNX', key, 'first', known.first)
  redis.call('HSET', key, 'last', known.last)
  redis.call('HINCRBY', key, 'entries', known.entries)
  local ms, number = string.match(known.first, '(%d+)-(%d+)')
  redis.call('ZADD', KEYS[3], 'NX', ms + math.min(number, 999) / 1000, run)
end
return cursors
"""


LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""DEL is allowed when Redis is full, and a script that has begun to write may continue, so SET is allowed, too."""


REPORT = """
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
for _, part in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if redis.call('EXISTS', 'snakemap:report:' .. part) == 0 then redis.call('SREM', KEYS[2], part) end
end
"""
"""Writes a report even if Redis is full (see LEASE), and removes expired parts."""


STATE = """
local life = redis.call('GET', KEYS[2]) or ''
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) > 0 then return {life, ARGV[1], 1} end
local newest = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then newest = info[i + 1] end
  end
end
return {life, newest, 0}
"""
"""Returns the life of the store, a cursor generated at or after the given one, and whether the given entry exists."""


SPAN = """
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local newest = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then newest = info[i + 1] end
  end
end
return {oldest[1] and oldest[1][1] or newest, newest}
"""


RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
