-- Records of holds; loaded between _numbers.lua and _common.lua.
--
-- A record is "3;state;flags;t0_ms;fingerprint;est;act;windows;number;first", as short as it can be: a million are held for
-- a day. The second version was "state;flags;t0_ms;fingerprint;est;act;windows;2", the first had no 2 at the end.
-- Records of later versions are left alone.
--   state    h held, d dispatched | s settled, v voided, x expired (nothing booked), c charged (its outcome is unknown)
--   flags    f leads its fingerprint, l was corrected late, p its result was published, u a part of what was settled
--            is of unknown outcome
--   est, act an amount for each of app/domain/budget.py UNITS, in its order, 0 for units that came later. est: what is
--            held, the worst that can come; act: of s what was used, else what is expected, and booked by c. Records of
--            earlier versions have no expected one: then est is. What est is above act, c and u keep unresolved
--   fingerprint  its first 22 characters
--   act      "=" where it is est
--   windows  "<unit, from 1>@<start>@<how long it lasts>@<field>", one for each counter that the hold is booked in, with
--            times in seconds, "…s", or in ms; "0@0s@0s@<field>" for a cap on open holds, where it counts 1 while it is
--            open. Up to the second version "<unit>@<start_ms>@<end_ms>@<field>"
--   number   of the transition that made it so, greater than that of every earlier one of the tenant: microseconds of
--            the store's clock, so that numbers of a history that was lost are no greater than later ones either.
--            Written as the difference to t0, "" for none
--   first    if the hold was corrected late: "<number of its end>~<what was booked>~<what was kept unresolved>"

local RECORD_VERSION = '3'

-- The part of a fingerprint that a record keeps.
local function shorten(fingerprint)
  return string.sub(fingerprint, 1, 22)
end

-- Times of windows are almost always whole seconds, which take fewer bytes.
local function format_time(ms)
  return ms % 1000 == 0 and text(ms / 1000) .. 's' or text(ms)
end

local function parse_time(written)
  local seconds = string.match(written, '^(%d+)s$')
  return seconds and seconds * 1000 or tonumber(written)
end

local function format_counters(counters)
  local parts = {}
  for index, counter in ipairs(counters) do
    parts[index] = table.concat({
      text(counter.unit), format_time(tonumber(counter.start)), format_time(counter.stop - counter.start), counter.field,
    }, '@')
  end
  return table.concat(parts, ',')
end

-- The windows of a record, or nil if they are malformed. Up to the second version the second time was the end.
local function parse_counters(windows, units, lasting)
  local counters, length = {}, 0
  for whole, unit, start, stop, field in string.gmatch(windows, '((%d+)@(%d+s?)@(%d+s?)@([^,]+),?)') do
    if tonumber(unit) > units then return nil end
    length = length + #whole
    local from, to = parse_time(start), parse_time(stop)
    if lasting then to = from + to end
    counters[#counters + 1] =
      { unit = tonumber(unit), start = text(from), stop = text(to), field = field, name = field .. '|' .. text(from) }
  end
  return length == #windows and counters or nil
end

local function parse_first(first)
  local number, booked, unresolved = string.match(first, '^(%d+)~([%d,]*)~([%d,]*)$')
  return number and { number = tonumber(number), booked = amounts_of(booked), unresolved = amounts_of(unresolved) } or nil
end

-- The record, or nil if it is malformed.
local function parse_record(hold, raw)
  local state, flags, t0, fingerprint, est, act, windows, number, first =
    string.match(raw, '^3;([hdsvxc]);(%a*);(%d+);([^;]*);([%d,]+);([%d,=]*);([^;]*);(-?%d*);([%d,~]*)$')
  local lasting = state ~= nil
  if not state then
    number, first = '', ''
    state, flags, t0, fingerprint, est, act, windows =
      string.match(raw, '^([hdsvxc]);(%a*);(%d+);([^;]*);([%d,]+);([%d,]*);([^;]*);?2?$')
  end
  if not state then return nil end
  local record = {
    hold = hold, state = state, flags = flags, t0 = tonumber(t0), fingerprint = shorten(fingerprint),
    est = amounts_of(est), act = amounts_of(act == '=' and est or act), first = parse_first(first),
    number = number == '' and 0 or t0 * 1000 + number,
  }
  record.counters = parse_counters(windows, #record.est, lasting)
  if not record.counters or (state == 's' and #record.act ~= #record.est) then return nil end
  record.est[0] = 1 -- what a hold counts under a cap
  return record
end

local function format_record(record)
  local first, est, act = record.first, csv(record.est), csv(record.act)
  return table.concat({
    RECORD_VERSION, record.state, record.flags, text(record.t0), record.fingerprint, est, act == est and '=' or act,
    format_counters(record.counters), record.number > 0 and text(record.number - record.t0 * 1000) or '',
    first and table.concat({ text(first.number), csv(first.booked), csv(first.unresolved) }, '~') or '',
  }, ';')
end
