"""Scripts in Lua that the Redis server runs in one call, by its own clock.

The keys of jobs are made in the scripts: they are for one server, as arq is, and not for a
cluster's slots.
"""

from __future__ import annotations

from typing import Final

# Bytes that a worker reads of a job. Ours are shorter; a longer one is none of ours, and cut off.
_LONGEST: Final = 1024
# Jobs of one queue that a Redis claim reads past, because others run them or no thread is free.
_PAST: Final = 5000
# Seconds for which arq keeps a job's count of tries.
_TRIES_KEPT: Final = 88_400

_CLOCK: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS: queue, its wake list. ARGV: expiry, then four for each job: its id, the id of the job which
# it replaces or '', how far ahead it is, and its value. Times are milliseconds, here and below.
ENQUEUE: Final = (
    _CLOCK
    + """
for i = 2, #ARGV, 4 do
  local id, before, score = ARGV[i], ARGV[i + 1], now - ARGV[i + 2]
  if before ~= '' then
    local place = redis.call('ZSCORE', KEYS[1], before)
    if place and tonumber(place) < score then score = tonumber(place) end
    redis.call('ZREM', KEYS[1], before)
    redis.call('UNLINK', 'arq:job:' .. before, 'arq:retry:' .. before)
  end
  redis.call('SET', 'arq:job:' .. id, ARGV[i + 3], 'PX', ARGV[1])
  redis.call('ZADD', KEYS[1], score, id)
end
if redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], '1') end
"""
)

# KEYS: queues, the most important first, then their wake lists. ARGV: Redis lease, room in all,
# free threads, room in each queue. Answers: the time, how long until the next job comes due or -1,
# how many were passed over for want of a thread; then three for each claimed job: the number of its
# queue from 1, its id, and its value, or ''. A claimed job stays in its queue with the time at
# which its Redis lease ends for a score. A queue with jobs left over gets a token, for a worker
# that has room. A key of another type, which `pcall` answers with an error, is a queue without
# jobs: it must not stop the others.
CLAIM: Final = (
    _CLOCK
    + f"""
local queues = #KEYS / 2
local lease, left, threads = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = {{now, -1, 0}}
for q = 1, queues do
  local queue, room = KEYS[q], math.min(left, tonumber(ARGV[3 + q]))
  local past, over = 0, false
  while past < {_PAST} do
    local ids = redis.pcall(
      'ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', past, math.max(room, 1))
    if #ids == 0 then break end
    if room <= 0 then over = true break end
    for _, id in ipairs(ids) do
      local job = redis.pcall('GETRANGE', 'arq:job:' .. id, 0, {_LONGEST - 1})
      if type(job) ~= 'string' then job = '' end
      local in_thread = string.find(job, '"kind":"def"', 1, true)
      if in_thread and threads <= 0 then
        past, over = past + 1, true
        answer[3] = answer[3] + 1
      elseif redis.call('SET', 'arq:in-progress:' .. id, '1', 'NX', 'PX', lease) then
        redis.pcall('INCR', 'arq:retry:' .. id)
        redis.pcall('EXPIRE', 'arq:retry:' .. id, {_TRIES_KEPT})
        redis.call('ZADD', queue, 'XX', now + lease, id)
        if in_thread then threads = threads - 1 end
        room, left = room - 1, left - 1
        answer[#answer + 1] = q
        answer[#answer + 1] = id
        answer[#answer + 1] = job
      else
        past = past + 1
      end
    end
  end
  if over and redis.pcall('LLEN', KEYS[queues + q]) == 0 then
    redis.call('RPUSH', KEYS[queues + q], '1')
  end
  local later = redis.pcall(
    'ZRANGEBYSCORE', queue, '(' .. string.format('%d', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] then
    local wait = math.max(math.floor(later[2] - now), 0)
    if answer[2] < 0 or wait < answer[2] then answer[2] = wait end
  end
end
return answer
"""
)

# KEYS: queues. ARGV: Redis lease, then two for each job: the number of its queue from 1, and its
# id.
RENEW: Final = (
    _CLOCK
    + """
for i = 2, #ARGV, 2 do
  redis.pcall('ZADD', KEYS[tonumber(ARGV[i])], 'XX', now + ARGV[1], ARGV[i + 1])
  redis.call('PEXPIRE', 'arq:in-progress:' .. ARGV[i + 1], ARGV[1])
end
"""
)

# KEYS: queues. ARGV: two for each job, as above. Answers 1 for each that is there, else 0.
PRESENT: Final = """
local answer = {}
for i = 1, #ARGV, 2 do
  local queued = redis.pcall('ZSCORE', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
  if type(queued) == 'table' then queued = false end
  answer[#answer + 1] = queued and redis.call('EXISTS', 'arq:job:' .. ARGV[i + 1]) or 0
end
return answer
"""

# KEYS: a queue. ARGV: ids of jobs. Removes them.
REMOVE: Final = """
redis.pcall('ZREM', KEYS[1], unpack(ARGV))
"""

# KEYS: a queue. Answers how many jobs it has; -1 where the key is of another type.
COUNT: Final = """
local count = redis.pcall('ZCARD', KEYS[1])
return type(count) == 'number' and count or -1
"""
