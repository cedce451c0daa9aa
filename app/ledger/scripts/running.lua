-- How far a hold's work has come; nothing is expired by looking.
--
-- KEYS  1 res   2 exp (see _common.lua)
-- ARGV  1 hold id
-- Returns the hold's record where its lease is alive, or nothing

local record = redis.call('HGET', KEYS[1], ARGV[1])
local deadline = record and redis.call('ZSCORE', KEYS[2], ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return deadline and tonumber(deadline) > now and record or false
