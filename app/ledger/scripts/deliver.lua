#!lua flags=allow-oom
-- Says how far the answer to an attempt has come (see _attempts.lua).
--
-- KEYS  the ledger (see _common.lua)
-- ARGV  1 wake channel   2 to 5 attempt (take_attempt)
--       6 delivered: nobody else gets it | abandoned: whoever repeats the call may | under_way: it is being written
-- Returns nothing.

local channel = take_word('channel')
local attempt = take_attempt()
local delivery = take_choice('delivery', { delivered = true, abandoned = true, under_way = true })
take_nothing_more()
if not attempt then refuse('attempt', '') end

local now = server_now()
local left, told = {}, {}
for _, call in ipairs(read_calls(attempt.origin)) do
  local mine = call.owner == attempt.id
  if mine and delivery == 'abandoned' then
    call.owner, call.till = '', 0
  elseif mine and call.till > 0 then
    call.till = now + attempt.lease
  end
  if mine then told[#told + 1] = call.hold .. ':' .. attempt.id end
  if not mine or delivery ~= 'delivered' then left[#left + 1] = call end
end
if #told == 0 then return end
write_calls(attempt, left, now)
if delivery == 'under_way' then return end
for _, delivered in ipairs(told) do redis.call('PUBLISH', channel, delivered) end
