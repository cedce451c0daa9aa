-- Decides in one step: within its rates, asked before under the same key, cached, followed, failed, refused,
-- absent, or reserved.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends gen fail (see _common.lua), and old where the caller sent a
--       key (see _claims.lua)
-- ARGV  in the order in which they are taken below:
--       hold, fingerprint
--       mode              use|refresh|bypass|only_if_cached
--       max age           of a result that will do, ms, or ""
--       following         the hold whose outcome this caller waited for, or ""
--       lease             of the hold, ms
--       keep              see take_keep
--       unknown           charge|release: what becomes of a sent hold that expires
--       claim             on the idempotency key, see take_claim
--       number of claims  that the tenant may have
--       attempt           see take_attempt; none beside a claim
--       repeats           repeats|first: whether the client says that it repeats a call
--       age               of the attempt since it arrived, ms
--       epoch             of the tenant's ledger as the caller knows it, or "" (see _epoch.lua)
--       requests          to count; 0 where this caller was counted before
--       may lead          yes|no: no answers absent where it would reserve or refuse, and then writes nothing
--       amount            what is expected, one for each unit
--       tail              serve_one|refuse: whether the last of a budget serves one call that is expected to fit
--       bounds            to choose from, see take_bounds
--       windows, rates    see take_windows, take_rates
--       usage             whose it is where the cache serves (take_usage); or nothing more, to count none
-- Returns {code, now_ms, payload, then for each window: start, end, settled, held, unresolved, limit, credit, then for each
--          rate: left, retry_ms, full_ms, refused}
--       hit       payload: the result as gen keeps it
--       follow    payload: the leader's hold id, or that of an earlier attempt's call; "<hold id>:<attempt>" where the
--                 call has ended and is being delivered
--       rejoined  an earlier attempt's call has a result that nobody was delivered; payload: "<created_ms>;<id of the
--                 generation>"
--       failed    payload: the failure that the followed leader published
--       refused | absent
--       lead      payload: "<epoch of the ledger>;<tokens of the chosen bound>"
--       forgotten this is not the ledger that the caller knows; payload: its epoch, or ""
--       closed    the ledger is being rebuilt; payload: ms until it is open
--       limited   a rate has no room, or a cap no place
--       replayed  the key's request is done; payload: "<created_ms>;<id of the generation>;<cost>;<result as JSON,
--                 or nothing where it is not the kept one>"
--       refailed  the key's request failed and was paid; payload: the failure as JSON
--       in_flight the key's request is not over; payload: ms after which to ask again
--       mismatch  the key was used for another request
--       crowded   the key is a new one, and the tenant has as many as it may; payload: "<so many>;<ms until one ends>"
--       over      payload: the state of a hold of this id that has ended
--       conflict  a hold of this id exists for other work or other amounts
--       clock     no candidate of a window contains now; no windows and no rates follow

local hold = take_word('hold')
local fingerprint = take_word('fingerprint')
local mode = take_choice('mode', { use = true, refresh = true, bypass = true, only_if_cached = true })
local max_age = take_optional(take_integer, 'max age')
local following = take_optional(take_word, 'following')
local lease = take_integer('lease')
local keep = take_keep()
local unknown_outcome = take_choice('unknown_outcome', { charge = true, release = true })
local claim, claim_kept = take_claim()
local claims_most = take_integer('number of claims')
local attempt = take_attempt()
local repeats = take_choice('repeats', { repeats = true, first = true }) == 'repeats'
local age = take_integer('age')
local known_epoch = take_optional(take_word, 'epoch')
local requests = take_integer('requests')
local may_lead = take_choice('may lead', { yes = true, no = true }) == 'yes'
local expected = take_amounts('amount')
local tail = take_choice('tail', { serve_one = true, refuse = true })
local bounds = take_bounds()
for unit = 1, UNITS do
  if expected[unit] > bounds[1].worst[unit] then refuse('expected, which is above the worst', expected[unit]) end
end
local windows = take_windows()
local rates = take_rates()
local usage = ARGV[cursor + 1] and take_usage()
take_nothing_more()
if lease == 0 then refuse('lease', lease) end
if attempt and claim then refuse('attempt', attempt.id) end

local now = server_now()
if not choose(windows, now) then return answer('clock', now, '', {}) end

local RETRY_MS = 1000

-- The answer, with the windows and the rates as they stand now.
local function reply(code, payload)
  refresh(windows)
  return append_rates(answer(code, now, payload or '', windows), rates)
end

-- The counters that a hold is booked in: budgets that differ in limit or mode alone share one.
local function counters_of()
  local counters, seen = {}, {}
  for _, window in ipairs(windows) do
    if not seen[window.name] then
      seen[window.name] = true
      counters[#counters + 1] = window
    end
  end
  return counters
end

local function counters_and_places(windows_booked, places)
  local counters = {}
  for index, window in ipairs(windows_booked) do
    counters[index] =
      { unit = window.unit, start = text(window.span[1]), stop = text(window.span[2]), field = window.field }
  end
  for _, place in ipairs(places) do counters[#counters + 1] = place end
  return counters
end

-- Whether the request that holds the key may still come to something; if so, when to ask again.
local function pending(other)
  if other.state == 'u' then return true, math.max(RETRY_MS, other.ends - now) end
  if other.hold == '' then return true, RETRY_MS end
  local record = read_record(other.hold)
  if record then expire_if_due(record, now, keep, unknown_outcome) end
  return record ~= nil and is_open(record), RETRY_MS
end

-- A hold that was settled for a dead process, which alone knew of the key: it was paid, so the key is done.
local function settled_unseen(other)
  local record = other.state == 'r' and other.hold ~= '' and read_record(other.hold)
  if not record or record.state ~= 's' then return end
  other.state, other.outcome, other.cost = 'd', 'gen_' .. other.hold, csv(record.act)
end

-- The result of a generation, where it is the one that the cache has for this work.
local function kept_result(generation)
  local raw = redis.call('GET', GEN)
  local leader, result = string.match(raw or '', '^([^;]+);%d+;[%d,]*;(.*)$')
  return leader and 'gen_' .. leader == generation and result or ''
end

-- A row of usage for a result that need not be made again: one hit, and what making it had cost.
local function saved(result)
  local cost, row = numbers(string.match(result, '^[^;]+;%d+;([%d,]*);') or ''), {}
  for column = 1, COLUMNS do row[column] = 0 end
  row[COLUMNS - REPORTED] = 1
  for unit = 1, REPORTED do row[COLUMNS - REPORTED + unit] = cost[unit] or 0 end
  return row
end

-- The same call again, after its first answer was lost: the hold was made under one of the bounds, whichever.
local earlier = read_record(hold)
read_rates(rates, now)
if earlier then
  local made
  for _, bound in ipairs(bounds) do
    if csv(bound.worst) == csv(earlier.est) then made = made or bound end
  end
  local same = earlier.fingerprint == shorten(fingerprint)
  if same and is_open(earlier) then same = made ~= nil and csv(expected_of(earlier)) == csv(expected) end
  if not same then return reply('conflict') end
  expire_if_due(earlier, now, keep, unknown_outcome)
  if is_open(earlier) then return reply('lead', (known_epoch or '') .. ';' .. text(made.tokens)) end
  return reply('over', earlier.state)
end

if not within(rates, 'requests', requests) then return reply('limited') end

if claim then
  local other = read_claim(now)
  if other and other.claim ~= claim then
    if other.fingerprint ~= fingerprint then return reply('mismatch') end
    settled_unseen(other)
    if other.state == 'd' or other.state == 'f' then
      count_requests(rates, requests, now)
      if other.state == 'f' then return reply('refailed', whole_failure(other.hold, other.outcome)) end
      local result = other.result ~= '' and other.result or kept_result(other.outcome)
      return reply('replayed', table.concat({ other.created, other.outcome, other.cost, result }, ';'))
    end
    local alive, wait = pending(other)
    if alive then return reply('in_flight', text(wait)) end
  elseif not other then
    local wait = crowded(now, claims_most)
    if wait then return reply('crowded', text(claims_most) .. ';' .. text(wait)) end
  end
end

-- The call whose answer this attempt is to get: its own, or the first that nobody waits for; and the first that
-- somebody waits for still, as far as anybody knows. The others, but for those that came to nothing, stay.
local function find_call()
  local found, own, left, awaited = read_calls(attempt.origin), nil, nil, nil
  local calls, purged = {}, purged_until(fingerprint, read_result(fingerprint))
  for _, call in ipairs(found) do
    local record = read_record(call.hold)
    if record then expire_if_due(record, now, keep, unknown_outcome) end
    if record and (is_open(record) or record.state == 's') and record.t0 > purged then
      call.record, calls[#calls + 1] = record, call
      if call.owner == attempt.id then
        own = own or call
      elseif record.t0 <= now - age and (call.owner == '' or (call.till > 0 and call.till <= now)) then
        left = left or call
      elseif record.t0 <= now - age then
        awaited = awaited or call
      end
    end
  end
  if #calls < #found then write_calls(attempt, calls, now) end
  return own or left, awaited, calls
end

local function without(calls, call)
  local others = {}
  for _, other in ipairs(calls) do
    if other ~= call then others[#others + 1] = other end
  end
  return others
end

if attempt and repeats then
  local call, awaited, calls = find_call()
  if call and call.failure ~= '' then
    count_requests(rates, requests, now)
    write_calls(attempt, without(calls, call), now)
    return reply('failed', whole_failure(call.hold, call.failure))
  elseif call then
    count_requests(rates, requests, now)
    call.owner, call.till = attempt.id, now + attempt.lease
    write_calls(attempt, calls, now)
    if is_open(call.record) then return reply('follow', call.hold) end
    return reply('rejoined', text(math.max(call.ended, call.record.t0)) .. ';gen_' .. call.hold)
  elseif awaited then
    count_requests(rates, requests, now)
    -- The end of its hold is announced under its name, and that of its delivery under its owner's as well.
    return reply('follow', is_open(awaited.record) and awaited.hold or awaited.hold .. ':' .. awaited.owner)
  end
end

local leads = mode ~= 'bypass'
if leads then
  local result = read_result(fingerprint)
  local purged = purged_until(fingerprint, result)
  if result and tonumber(string.match(result, '^[^;]+;(%d+);')) > purged then
    local leader, created = string.match(result, '^([^;]+);(%d+);')
    local young = not max_age or now - tonumber(created) <= max_age
    if leader == following or (mode ~= 'refresh' and young) then
      count_requests(rates, requests, now)
      if usage then count_used(usage, now, now, saved(result)) end
      if claim then
        local done = { state = 'd', created = created, cost = FREE, outcome = 'gen_' .. leader }
        write_claim(claim, fingerprint, done, now, claim_kept)
      end
      return reply('hit', result)
    end
  end
  if mode == 'only_if_cached' then
    count_requests(rates, requests, now)
    drop_claim(claim, now)
    return reply('absent')
  end
  local lead = read_lead(fingerprint, now)
  local leading = lead and not lead.failed and purged >= 0 and read_record(lead.hold)
  if leading and leading.t0 <= purged then
    lead = nil -- its result will not be kept, so nobody follows it any more
  elseif lead and lead.failed then
    if lead.hold == following then
      drop_claim(claim, now)
      return reply('failed', whole_failure(lead.hold, lead.failure))
    end
  elseif lead and lead.hold ~= hold and mode == 'refresh' then
    leads = false -- it draws anew beside the leader, whose followers stay with it
  elseif lead and lead.hold ~= hold then
    count_requests(rates, requests, now)
    if claim then write_claim(claim, fingerprint, { state = 'r' }, now, lease) end
    return reply('follow', lead.hold)
  end
end

if not may_lead then return reply('absent') end

-- A hold that is there already was admitted in this ledger, whatever the caller knows of it.
local lost, epoch = check_epoch(known_epoch, now)
if lost then
  drop_claim(claim, now)
  return reply(lost, epoch)
end

-- Under a wider bound fewer answers are cut off, but more is held: so wide a bound is chosen only where so many holds of
-- its kind fit at once.
local ROOM_FOR = 64

-- Whether so many holds of these amounts fit into what is left of every enforced window.
local function fit(amounts, times)
  for _, window in ipairs(windows) do
    local counts = window.enforced and bounds[1].worst[window.unit] > 0
    if counts and window.taken + times * amounts[window.unit] > window.limit then return false end
  end
  return true
end

-- The bound under which to hold, or nil where there is no room. The last of a budget may serve one call that is expected
-- to fit: its hold then takes more than is left, so that nothing else fits until it has ended. That is what keeps it one.
local function choose_bound()
  refresh(windows)
  for _, window in ipairs(windows) do
    if window.taken + bounds[#bounds].worst[window.unit] > COUNTER_MAX then
      error('INVALID counter ' .. window.name .. ': it would overflow')
    end
  end
  for index = #bounds, 2, -1 do
    if fit(bounds[index].worst, ROOM_FOR) then return bounds[index] end
  end
  local room = fit(bounds[1].worst, 1) or (tail == 'serve_one' and fit(expected, 1))
  return room and bounds[1] or nil
end

-- Forgets at most `limit` operations whose time is over, of a tenant that begins no new ones too.
local function prune_operations(now, limit)
  local due = redis.call('ZRANGE', OPENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return end
  redis.call('HDEL', OPS, unpack(due))
  redis.call('ZREM', OPENDS, unpack(due))
end

-- Dead holds never refuse a live request: sweep for as long as that frees anything, within bounds.
sweep(now, keep, unknown_outcome, 32)
purge(now, keep, 32)
prune_claims(now, 32)
prune_calls(now, 32)
prune_operations(now, 32)
read_rates(rates, now)
local free, bound = within(rates, 'concurrent', 1), choose_bound()
local rounds = 0
while not (free and bound) and rounds < 40 and sweep(now, keep, unknown_outcome, 256) > 0 do
  rounds = rounds + 1
  read_rates(rates, now)
  free, bound = within(rates, 'concurrent', 1), choose_bound()
end
if not (free and bound) then
  drop_claim(claim, now)
  return reply(bound and 'limited' or 'refused')
end

if not epoch then
  epoch = hold
  redis.call('HSET', WIN, EPOCH, epoch .. ';0')
end
local counters, purges = counters_of(), {}
for _, window in ipairs(counters) do
  increase(window.name .. ':h', bound.worst[window.unit])
  purges[#purges + 1] = text(window.span[2] + keep)
  purges[#purges + 1] = 'w;' .. window.name
end
if #purges > 0 then redis.call('ZADD', GC, 'NX', unpack(purges)) end
count_requests(rates, requests, now)
redis.call('ZADD', EXP, text(now + lease), hold)
write_records({ {
  hold = hold, state = 'h', flags = mode == 'bypass' and '' or 'f', t0 = now, fingerprint = fingerprint,
  est = bound.worst, act = expected, counters = counters_and_places(counters, take_places(rates, now, keep)),
} })
if leads then write_lead(fingerprint, hold, now, lease) end
if attempt then add_call(attempt, hold, now) end
if claim then write_claim(claim, fingerprint, { state = 'r', hold = hold }, now, claim_kept) end
return reply('lead', epoch .. ';' .. text(bound.tokens))
