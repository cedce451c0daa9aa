-- How long some ids are still listed.
--
-- KEYS  1 index, see index.lua
-- ARGV  ids
-- Returns milliseconds for each, 0 for one that is not listed or has expired

local now = tonumber(redis.call('TIME')[1])
local reply = {}
for at, id in ipairs(ARGV) do
  local score = redis.call('ZSCORE', KEYS[1], id)
  reply[at] = 0
  if score then reply[at] = math.max(0, (math.floor(tonumber(score) / 1048576) - now + 1) * 1000) end
end
return reply
