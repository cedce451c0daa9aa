-- Makes room for a picture within its tenant's quota: those that would expire first go.
--
-- KEYS  1 kept  ZSET  "<image id>;<bytes>" -> when it expires, ms; "#" -> minus all bytes together   always a TTL
-- ARGV  1 image id   2 bytes   3 how long it is kept, ms   4 quota, bytes
-- Returns {kept or "", then the ids of the pictures that are to go}
--
-- The sum lies in the same key, so that both are lost together where the store evicts them.

local KEPT = KEYS[1]
local id, bytes, ttl, quota = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if bytes > quota then return { '' } end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total = -tonumber(redis.call('ZSCORE', KEPT, '#') or '0')

local function forget(member)
  redis.call('ZREM', KEPT, member)
  total = math.max(0, total - tonumber(string.match(member, ';(%d+)$')))
end

for _, member in ipairs(redis.call('ZRANGE', KEPT, '(0', now, 'BYSCORE', 'LIMIT', 0, 256)) do forget(member) end
local own = id .. ';' .. bytes
if redis.call('ZSCORE', KEPT, own) then forget(own) end

local reply = { 'kept' }
while total + bytes > quota do
  local first = redis.call('ZRANGE', KEPT, '(0', '+inf', 'BYSCORE', 'LIMIT', 0, 1)[1]
  if not first then total = 0 break end
  forget(first)
  reply[#reply + 1] = string.match(first, '^(.*);')
end

redis.call('ZADD', KEPT, now + ttl, own, -(total + bytes), '#')
redis.call('PEXPIRE', KEPT, math.max(ttl, redis.call('PTTL', KEPT)))
return reply
