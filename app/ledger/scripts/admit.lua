-- Decides on a request in one step: limited by a rate, repeated under a key, cached, followed, failed, refused, absent,
-- or reserved.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends users gen fail (see _common.lua), and old if the caller
--       sent a key (see _claims.lua)
-- ARGV  in the order in which they are taken below:
--       hold, fingerprint
--       mode              use|refresh|bypass|only_if_cached
--       max age           of an acceptable result, ms, or ""
--       following         the hold whose outcome this caller waited for, or ""
--       lease             of the hold, ms
--       keep              see take_keep
--       unknown outcome   charge|release: what happens to a sent hold that expires
--       claim             on the idempotency key, see take_claim
--       number of claims  the tenant's maximum
--       attempt           see take_attempt; none together with a claim
--       repeats           repeats|first: whether the client marks the call as a retry
--       age               of the attempt since it arrived, ms
--       epoch             of the tenant's ledger as the caller knows it, or "" (see _epoch.lua)
--       requests          to count; 0 if this caller was counted before
--       may lead          yes|no: with no, the script returns absent instead of reserving or refusing, and writes nothing
--       amount            what is expected, one for each unit
--       tail              serve_one|refuse: whether an almost used-up budget serves one call that is expected to fit
--       bounds            to choose from, see take_bounds
--       windows, rates    see take_windows, take_rates
--       number of users   that may be active: the tenant's maximum
--       usage             attribution of a cache hit (take_usage); left out to count none
-- Returns {code, now_ms, payload, then for each window: start, end, settled, held, unresolved, limit, credit, then for each
--          rate: left, retry_ms, full_ms, refused}
--       hit       payload: the result as gen keeps it
--       follow    payload: the leader's hold id, or that of an earlier attempt's call; "<hold id>:<attempt>" where the
--                 call has ended and is being delivered
--       rejoined  an earlier attempt's call has an undelivered result; payload: "<created_ms>;<id of the generation>"
--       failed    payload: the failure that the followed leader published
--       refused | absent
--       lead      payload: "<epoch of the ledger>;<tokens of the chosen bound>"
--       forgotten this is not the ledger that the caller knows; payload: its epoch, or ""
--       closed    the ledger is being rebuilt; payload: ms until it is open
--       limited   a rate has no room, or a cap no place
--       replayed  the key's request is done; payload: "<created_ms>;<id of the generation>;<cost>;<result as JSON,
--                 or empty if the cache has another one>"
--       refailed  the key's request failed and was paid; payload: the failure as JSON
--       in_flight the key's request is not finished; payload: ms after which to retry
--       mismatch  the key was used for another request
--       crowded   the key is new, and the tenant has its maximum; payload: "<maximum>;<ms until one expires>"
--       too_many_users  the end user is not active, and the tenant has its maximum; payload: "<maximum>;<ms until one ends>"
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
local claim, claim_kept, original = take_claim()
original = original or fingerprint
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
local users_most = take_integer('number of users')
local usage = ARGV[cursor + 1] and take_usage()
take_nothing_more()
if lease == 0 then refuse('lease', lease) end
if attempt and claim then refuse('attempt', attempt.id) end

local now = server_now()
if not choose(windows, now) then return answer('clock', now, '', {}) end

local RETRY_MS = 1000

-- The reply, with the current windows and rates.
local function reply(code, payload)
  refresh(windows)
  return append_rates(answer(code, now, payload or '', windows), rates)
end

-- The counters that a hold is booked in: budgets that differ only in limit or mode share one. Budgets that only count do
-- not count users for whom there is no place.
local function counters_of(crowded_out)
  local counters, seen = {}, {}
  for _, window in ipairs(windows) do
    if not seen[window.name] and not (crowded_out and user_of(window.field)) then
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

-- Whether the request that owns the key may still produce an outcome, and after how many ms to retry.
local function pending(other)
  if other.state == 'u' then return true, math.max(RETRY_MS, other.ends - now) end
  if other.hold == '' then return true, RETRY_MS end
  local record = read_record(other.hold)
  if record then expire_if_due(record, now, keep, unknown_outcome) end
  return record ~= nil and is_open(record), RETRY_MS
end

-- If the hold was settled on behalf of a dead process, only that process knew the key: it was paid, so the key is done.
local function settled_unseen(other)
  local record = other.state == 'r' and other.hold ~= '' and read_record(other.hold)
  if not record or record.state ~= 's' then return end
  other.state, other.outcome, other.cost = 'd', 'gen_' .. other.hold, csv(record.act)
end

-- The result of a generation if it is the cached one for this work, else "".
local function kept_result(generation)
  local raw = redis.call('GET', GEN)
  local leader, result = string.match(raw or '', '^([^;]+);%d+;[%d,]*;(.*)$')
  return leader and 'gen_' .. leader == generation and result or ''
end

-- A row of usage for a cache hit: one hit, and what the result had cost.
local function saved(result)
  local cost, row = numbers(string.match(result, '^[^;]+;%d+;([%d,]*);') or ''), {}
  for column = 1, COLUMNS do row[column] = 0 end
  row[HITS] = 1
  for unit = 1, REPORTED do row[HITS + unit] = cost[unit] or 0 end
  return row
end

-- The same call again after its first reply was lost: the hold was made under any one of the bounds.
local earlier = read_record(hold)
read_rates(rates, now)
if earlier then
  local chosen
  for _, bound in ipairs(bounds) do
    if csv(bound.worst) == csv(earlier.est) then chosen = chosen or bound end
  end
  local same = earlier.fingerprint == shorten(fingerprint)
  if same and is_open(earlier) then same = chosen ~= nil and csv(expected_of(earlier)) == csv(expected) end
  if not same then return reply('conflict') end
  expire_if_due(earlier, now, keep, unknown_outcome)
  if is_open(earlier) then return reply('lead', (known_epoch or '') .. ';' .. text(chosen.tokens)) end
  return reply('over', earlier.state)
end

-- The end user whose limits apply, or nil; whether one of them is enforced, and whether one is a rate.
local user, is_limited, has_rate
for _, window in ipairs(windows) do
  local owner = user_of(window.field)
  user, is_limited = user or owner, is_limited or (owner and window.enforced)
end
for _, rate in ipairs(rates) do
  local owner = user_of(rate.field)
  user, is_limited, has_rate = user or owner, is_limited or owner, has_rate or (owner and rate.kind == 'requests')
end

-- Whether the user is not active while as many others are as may be.
local function lacks_place()
  local till = user and redis.call('ZSCORE', USERS, user)
  if not user or (till and tonumber(till) > now) then return false end
  return redis.call('ZCOUNT', USERS, '(' .. text(now), '+inf') >= users_most
end

local function refuse_user()
  local first = redis.call('ZRANGE', USERS, '(' .. text(now), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  return reply('too_many_users', text(users_most) .. ';' .. text(math.max(0, tonumber(first[2] or now) - now)))
end

if not within(rates, 'requests', requests) then return reply('limited') end
if has_rate and requests > 0 and lacks_place() then return refuse_user() end

if claim then
  local other = read_claim(now)
  if other and other.claim ~= claim then
    if other.original ~= original then return reply('mismatch') end
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

-- The call whose response this attempt gets: its own, or the first that nobody waits for. Then the first call that
-- somebody still seems to wait for, and all calls but those that came to nothing, which are deleted.
local function find_call()
  local known, own, left, awaited = read_calls(attempt.origin), nil, nil, nil
  local calls, purged = {}, purged_until(fingerprint, read_result(fingerprint))
  for _, call in ipairs(known) do
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
  if #calls < #known then write_calls(attempt, calls, now) end
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
    -- The end of a hold is announced under its id, the end of its delivery under its id and owner.
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
      if usage then count_used(usage, now, now, saved(result), {}) end
      if claim then
        local done = { state = 'd', created = created, cost = FREE, outcome = 'gen_' .. leader }
        write_claim(claim, original, done, now, claim_kept)
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
    lead = nil -- its result will not be kept, so nobody follows it
  elseif lead and lead.failed then
    if lead.hold == following then
      drop_claim(claim, now)
      return reply('failed', whole_failure(lead.hold, lead.failure))
    end
  elseif lead and lead.hold ~= hold and mode == 'refresh' then
    leads = false -- it draws a new picture beside the leader, whose followers stay with the leader
  elseif lead and lead.hold ~= hold then
    count_requests(rates, requests, now)
    if claim then write_claim(claim, original, { state = 'r' }, now, lease) end
    return reply('follow', lead.hold)
  end
end

local crowded_out = lacks_place()
if crowded_out and is_limited then
  if may_lead then drop_claim(claim, now) end
  return refuse_user()
end
if not may_lead then return reply('absent') end

-- This comes after the check for an existing hold, which was admitted in this ledger whatever epoch the caller knows.
local lost, epoch = check_epoch(known_epoch, now)
if lost then
  drop_claim(claim, now)
  return reply(lost, epoch)
end

-- A wider bound cuts off fewer answers, but holds more: it is chosen only if this many of its holds fit at once.
local ROOM_FOR = 64

-- Whether `times` holds of these amounts fit into what is left of every enforced window.
local function fit(amounts, times)
  for _, window in ipairs(windows) do
    local counts = window.enforced and bounds[1].worst[window.unit] > 0
    if counts and window.taken + times * amounts[window.unit] > window.limit then return false end
  end
  return true
end

-- The bound of the new hold, or nil if there is no room. An almost used-up budget may serve a call that is expected to
-- fit. Its hold takes more than is left, so nothing else fits until it has ended: that limits it to one call at a time.
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

-- Deletes at most `limit` expired operations, including those of a tenant that begins no new ones.
local function prune_operations(now, limit)
  local due = redis.call('ZRANGE', OPENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return end
  redis.call('HDEL', OPS, unpack(due))
  redis.call('ZREM', OPENDS, unpack(due))
end

-- Dead holds must not cause a refusal: sweep as long as that frees anything, up to a limit.
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
local counters, purges = counters_of(crowded_out), {}
for _, window in ipairs(counters) do
  increase(window.name .. ':h', bound.worst[window.unit])
  purges[#purges + 1] = text(window.span[2] + keep_of(window.field, keep))
  purges[#purges + 1] = 'w;' .. window.name
end
if user and not crowded_out then
  local till = now + USER_KEEP_MS
  for _, window in ipairs(windows) do
    if user_of(window.field) then till = math.max(till, window.span[2]) end
  end
  note_user(user, till, now)
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
if claim then write_claim(claim, original, { state = 'r', hold = hold }, now, claim_kept) end
return reply('lead', epoch .. ';' .. text(bound.tokens))
