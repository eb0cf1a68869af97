// What the clients of Box's events compare with: the log, as OData has it.
import assert from 'node:assert/strict'

export const { URL: root, TOKEN: token } = process.env
const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }

export const log = async () => {
  const events = []
  for (let next = `${root}/odata/EntityEvent`; next; ) {
    const page = await (await fetch(next, { headers })).json()
    events.push(...page.value.map(({ ResourceRecordUrl, ...event }) => event))
    next = page['@odata.nextLink']
  }
  return events
}

let written = 0
export const write = async (n) => {
  for (let i = 0; i < n; i++) {
    const answer = await fetch(`${root}/odata/Property('box-${process.pid}-${written++}')`, { method: 'PUT', headers, body: '{"ListPrice": 1}' })
    assert.equal(answer.status, 201)
  }
}

// follow writes while a stream is read, and returns when the stream had the whole log, each event once and in order.
export const follow = async (stream, sourceOf) => {
  const seen = []
  const whole = new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.on('data', (event) => {
      seen.push(event)
      if (sourceOf(event).EntityEventSequence === stream.last) resolve()
    })
  })
  whole.catch(() => {})
  for (const n of [1, 3, 120, 2]) {
    await write(n)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const expected = await log()
  stream.last = expected.at(-1).EntityEventSequence
  if (!seen.some((event) => sourceOf(event).EntityEventSequence === stream.last)) await whole
  stream.destroy()
  assert.deepEqual(seen.map((event) => {
    const { EntityEventSequence, ResourceName, ResourceRecordKey } = sourceOf(event)
    return { EntityEventSequence, ResourceName, ResourceRecordKey }
  }), expected)
  return seen
}
