-- Performs a list of steps on one account: transactions (counters with floors, records) and looks. It knows nothing of
-- what the counters mean.
--
-- KEYS  1 counters, a hash. Fields that begin with one "@" are ours:
--         @v      the layout of these keys
--         @now    the latest time this account has seen, so that time never runs backwards for it
--         @until  when the keys expire
--         @wake   the number of the last wake-up: its time, or one more than the one before
--       2 records, a hash
--       3 the ends of their leases, a sorted set
--       4 what the sender did last here; a step that was sent twice is done once
-- ARGV  1 the sender's number of this call, growing; 0 for a call that only looks
--       2 microseconds until a silent account is forgotten
--       3 milliseconds for which key 4 is kept
--       4 the channel on which those who wait are woken
--       5 ... the steps
--
--   "T" wake adds floors expects withins stamps drops puts   (how many of each), then
--       {name delta} {name minimum} {name value} {name age} {name} {key value} {key value lease}
--   "L" due names, then {key}
--
-- Times are whole microseconds. Numbers are doubles here, exact up to 2^53; what would leave that range is refused.

local MAX = 9007199254740991
local LAYOUT = '1'
local DUE_MAX = 100

local COUNTERS, RECORDS, DUE, LAST = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number, forget = tonumber(ARGV[1]), tonumber(ARGV[2])
local channel = ARGV[4]

local function text(value)
  return string.format('%.0f', value)
end

local before = redis.call('HGETALL', COUNTERS)
local held = {}
for i = 1, #before, 2 do
  held[before[i]] = before[i + 1]
end
if #before > 0 and held['@v'] ~= LAYOUT then
  return redis.error_reply('LAYOUT ' .. (held['@v'] or 'none') .. ' instead of ' .. LAYOUT)
end

local function counter(name)
  return tonumber(held[name] or 0)
end

local clock = redis.call('TIME')
local now = math.max(clock[1] * 1000000 + clock[2], counter('@now'))
local now_text = text(now)

-- A call whose number is not new was sent twice: the connection was lost before its answer came.
local done_before = nil
if number > 0 then
  local last = redis.call('GET', LAST)
  if last then
    local last_number, flags = string.match(last, '^(%d+) (.*)$')
    if tonumber(last_number) >= number then
      done_before = tonumber(last_number) == number and flags or ''
    end
  end
end
local writing = number > 0 and not done_before

-- The first write may find the server out of memory; nothing has happened then.
if writing then
  redis.call('HSET', COUNTERS, '@v', LAYOUT, '@now', now_text)
elseif #before > 0 then
  redis.call('HSET', COUNTERS, '@now', now_text)
end

local at = 5
local changed = {}
local waking, puts_done = false, false
local expires = now + forget

local function transact()
  local wake = ARGV[at + 1]
  local adds, floors, expects = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local withins, stamps = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local drops, puts = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
  local add_at = at + 9
  local floor_at = add_at + 2 * adds
  local expect_at = floor_at + 2 * floors
  local within_at = expect_at + 2 * expects
  local stamp_at = within_at + 2 * withins
  local drop_at = stamp_at + stamps
  local put_at = drop_at + 2 * drops
  at = put_at + 3 * puts
  if not writing then
    return '0'
  end

  for i = expect_at, within_at - 2, 2 do
    if counter(ARGV[i]) ~= tonumber(ARGV[i + 1]) then
      return '0'
    end
  end
  for i = within_at, stamp_at - 2, 2 do
    local time = counter(ARGV[i])
    if time == 0 or now - time > tonumber(ARGV[i + 1]) then
      return '0'
    end
  end
  local sums = {}
  local in_range = true
  for i = add_at, floor_at - 2, 2 do
    local delta = tonumber(ARGV[i + 1])
    local sum = counter(ARGV[i]) + delta
    in_range = in_range and math.abs(delta) <= MAX and math.abs(sum) <= MAX
    sums[ARGV[i]] = sum
  end
  for i = floor_at, expect_at - 2, 2 do
    if (sums[ARGV[i]] or counter(ARGV[i])) < tonumber(ARGV[i + 1]) then
      return '0'
    end
  end
  local dropped = {}
  for i = drop_at, put_at - 2, 2 do
    if redis.call('HGET', RECORDS, ARGV[i]) ~= ARGV[i + 1] then
      return '0'
    end
    dropped[ARGV[i]] = true
  end
  for i = put_at, at - 3, 3 do
    if not dropped[ARGV[i]] and redis.call('HEXISTS', RECORDS, ARGV[i]) == 1 then
      return '0'
    end
  end
  if not in_range then
    return 'x'
  end

  for name, sum in pairs(sums) do
    held[name] = sum
    changed[name] = text(sum)
  end
  for i = stamp_at, drop_at - 1 do
    held[ARGV[i]] = now
    changed[ARGV[i]] = now_text
  end
  for i = put_at, at - 3, 3 do
    local key, lease = ARGV[i], ARGV[i + 2]
    redis.call('HSET', RECORDS, key, ARGV[i + 1])
    if lease ~= '' then
      local due = now + tonumber(lease)
      redis.call('ZADD', DUE, text(due), key)
      expires = math.max(expires, due + forget)
    elseif dropped[key] then
      redis.call('ZREM', DUE, key)
    end
    dropped[key] = nil
    puts_done = true
  end
  for key in pairs(dropped) do
    redis.call('HDEL', RECORDS, key)
    redis.call('ZREM', DUE, key)
  end
  waking = waking or wake == '1'
  return '1'
end

local function look()
  local due, names = ARGV[at + 1], tonumber(ARGV[at + 2])
  local found = {}
  local function tell(key)
    local value = redis.call('HGET', RECORDS, key)
    if value then
      found[#found + 1] = key
      found[#found + 1] = value
    end
    return value
  end
  for i = at + 3, at + 2 + names do
    tell(ARGV[i])
  end
  at = at + 3 + names
  if due == '1' then
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now_text, 'LIMIT', 0, DUE_MAX)) do
      if not tell(key) then
        redis.call('ZREM', DUE, key)
      end
    end
  end
  return found
end

local flags, answer = {}, {}
while at <= #ARGV do
  if ARGV[at] == 'T' then
    flags[#flags + 1] = transact()
  else
    answer[#answer + 1] = look()
  end
end
flags = done_before or table.concat(flags)

if writing then
  if waking then
    local wake = text(math.max(now, counter('@wake') + 1))
    changed['@wake'] = wake
    redis.call('PUBLISH', channel, wake)
  end
  -- The keys live as long as the account is used, and longer than any lease. Renewed now and then, not each time.
  local until_before = counter('@until')
  local renew = expires > until_before + forget / 16
  if renew then
    changed['@until'] = text(expires)
  else
    expires = until_before
  end
  local fields = {}
  for name, value in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
    if #fields >= 1000 then
      redis.call('HSET', COUNTERS, unpack(fields))
      fields = {}
    end
  end
  if #fields > 0 then
    redis.call('HSET', COUNTERS, unpack(fields))
  end
  local expires_ms = text(math.floor(expires / 1000))
  if renew then
    redis.call('PEXPIREAT', COUNTERS, expires_ms)
  end
  if renew or puts_done then
    redis.call('PEXPIREAT', RECORDS, expires_ms)
    redis.call('PEXPIREAT', DUE, expires_ms)
  end
  redis.call('SET', LAST, ARGV[1] .. ' ' .. flags, 'PX', ARGV[3])
end

-- What the counters were, which steps were done, and what was found: the sender works out what they are now.
return {now, done_before and 1 or 0, flags, before, unpack(answer)}
