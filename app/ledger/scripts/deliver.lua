#!lua flags=allow-oom
-- Records how far the response to an attempt has been delivered (see _attempts.lua).
--
-- KEYS  the ledger (see _common.lua)
-- ARGV  channel on which followers are woken, attempt (take_attempt), delivery:
--       delivered (nobody else gets it) | abandoned (a retry may get it) | under_way (it is being written)
-- Returns nothing.

local channel = take_word('channel')
local attempt = take_attempt()
local delivery = take_choice('delivery', { delivered = true, abandoned = true, under_way = true })
take_nothing_more()
if not attempt then refuse('attempt', '') end

local now = server_now()
local left, deliveries = {}, {}
for _, call in ipairs(read_calls(attempt.origin)) do
  local mine = call.owner == attempt.id
  if mine and delivery == 'abandoned' then
    call.owner, call.till = '', 0
  elseif mine and call.till > 0 then
    call.till = now + attempt.lease
  end
  if mine then deliveries[#deliveries + 1] = call.hold .. ':' .. attempt.id end
  if not mine or delivery ~= 'delivered' then left[#left + 1] = call end
end
if #deliveries == 0 then return end
write_calls(attempt, left, now)
if delivery == 'under_way' then return end
for _, delivered in ipairs(deliveries) do redis.call('PUBLISH', channel, delivered) end
