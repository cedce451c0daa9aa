-- Whether a hold still leads its work.
--
-- KEYS  1 lead (see _common.lua)
-- ARGV  1 fingerprint   2 hold id
-- Returns 1 if it does, else 0

local hold, ends = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^([^;]*);(%d+);')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return hold == ARGV[2] and tonumber(ends) > now and 1 or 0
