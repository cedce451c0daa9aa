-- Notes what is stored of a tenant, and what must go for it: what has expired, then what expires first.
--
-- KEYS  1 index  ZSET   id of an image or generation -> when it expires, s, times 2^20, plus its size, KiB
--                       "#" -> minus the size of all together; always a TTL
--       2 generation    only with a record
--       then images     keys whose time is extended to the least time
-- ARGV  1 quota, KiB, or "" for none   2 least time of the files, ms   3 record or ""   4 time of the record, ms
--       5 how many are new, then each one's id, size in KiB and time in ms, then the ids of the files
-- Returns the ids whose bytes are to be deleted
--
-- Size and time share a score, so that one member is all that an image takes. The sum lies in the same key, so
-- that both are lost together where the store evicts them.

local UNIT = 1048576
local BATCH = 256
local index = KEYS[1]
local quota = tonumber(ARGV[1])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total = -tonumber(redis.call('ZSCORE', index, '#') or '0')
local longest = redis.call('PTTL', index)
local reply = {}

local function text(number) return string.format('%.0f', number) end
local function score_of(expires_ms, size) return text(math.ceil(expires_ms / 1000) * UNIT + size) end

local function forget(id, score)
  redis.call('ZREM', index, id)
  total = math.max(0, total - tonumber(score) % UNIT)
  reply[#reply + 1] = id
end

-- Returns whether anything could go. What is new stays.
local own = {}
local function forget_first(high, is_enough)
  local first = redis.call('ZRANGE', index, '(0', high, 'BYSCORE', 'LIMIT', 0, BATCH, 'WITHSCORES')
  local evicted = false
  for at = 1, #first, 2 do
    if is_enough() then break end
    if not own[first[at]] then
      forget(first[at], first[at + 1])
      evicted = true
    end
  end
  return evicted
end

-- Whatever is stored again keeps the later of both times.
local function note(id, size, ttl)
  local score = redis.call('ZSCORE', index, id)
  local expires = now + ttl
  if score then
    total = math.max(0, total - tonumber(score) % UNIT)
    expires = math.max(expires, math.floor(tonumber(score) / UNIT) * 1000)
  end
  total = total + size
  longest = math.max(longest, expires - now + 1000)
  redis.call('ZADD', index, score_of(expires, size), id)
end

forget_first('(' .. score_of(now - 1000, 0), function() return false end)

local count, at = tonumber(ARGV[5]), 6
for _ = 1, count do
  own[ARGV[at]] = true
  note(ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
  at = at + 3
end
for file = at, #ARGV do
  local score = redis.call('ZSCORE', index, ARGV[file])
  if score then note(ARGV[file], tonumber(score) % UNIT, tonumber(ARGV[2])) end
end

if quota then
  local function is_enough() return total <= quota end
  while not is_enough() and forget_first('+inf', is_enough) do end
end

redis.call('ZADD', index, text(-total), '#')
redis.call('PEXPIRE', index, text(math.max(longest, 1000)))

local images = 2
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
  images = 3
end
for key = images, #KEYS do
  if redis.call('PTTL', KEYS[key]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[key], ARGV[2]) end
end
return reply
