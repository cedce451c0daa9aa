-- Takes ids out of the index and deletes keys with them.
--
-- KEYS  1 index, see index.lua   then keys to delete
-- ARGV  1 how many more to take, whichever they are   then ids
-- Returns the ids that were listed

local UNIT = 1048576
local total = -tonumber(redis.call('ZSCORE', KEYS[1], '#') or '0')
local reply = {}
local function forget(id)
  local score = redis.call('ZSCORE', KEYS[1], id)
  if not score or id == '#' then return end
  redis.call('ZREM', KEYS[1], id)
  total = math.max(0, total - tonumber(score) % UNIT)
  reply[#reply + 1] = id
end

for at = 2, #ARGV do forget(ARGV[at]) end
local more = tonumber(ARGV[1])
if more > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '(0', '+inf', 'BYSCORE', 'LIMIT', 0, more)) do forget(id) end
end
if redis.call('ZCARD', KEYS[1]) > 1 then
  redis.call('ZADD', KEYS[1], string.format('%.0f', -total), '#')
else
  redis.call('DEL', KEYS[1])
end
for at = 2, #KEYS do redis.call('DEL', KEYS[at]) end
return reply
