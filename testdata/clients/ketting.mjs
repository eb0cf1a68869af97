// Ketting, a HAL client: it knows the address of / alone, and comes everywhere by links.
import assert from 'node:assert/strict'
import { Client, Problem, bearerAuth } from 'ketting'

const { URL: root, TOKEN: token, CALLBACK: callbackUrl } = process.env
console.warn = (text) => assert.fail(text) // what it cannot follow, it warns of
const client = new Client(`${root}/`)
client.use(bearerAuth(token), root)
const refused = async (request, status, detail) => {
  const problem = await request.then(() => assert.fail('it was not refused'), (error) => error)
  assert.ok(problem instanceof Problem, String(problem))
  assert.equal(problem.body.status, status)
  assert.match(problem.body.detail, detail)
}

// What is there.
const start = await client.go().get()
for (const rel of ['self', 'odata', 'event-types', 'subscriptions', 'tasks', 'events', 'sessions', 'openapi']) {
  assert.ok(start.links.has(rel), rel)
}
assert.ok(start.links.get('subscription').templated)
const types = await client.follow('event-types').followAll('eventTypes')
const property = (await Promise.all(types.map((type) => type.get()))).find((type) => type.data.name === 'Property')
assert.equal(property.data.characteristics.model, '1-to-many')

// A subscription: made, read, found in the list and by its UUID, changed, resumed.
const subscriptions = await client.follow('subscriptions')
assert.equal((await subscriptions.get()).data.totalCount, 0)
await refused(subscriptions.postFollow({ data: { callbackUrl: 'https://10.0.0.1/hook' } }), 403, /./)
await refused(subscriptions.postFollow({ data: { callbackUrl, fromSequence: 1000000 } }), 422, /./)
const made = await subscriptions.postFollow({ data: { callbackUrl, callbackToken: 'token-of-the-sink', consumerLabel: 'Ketting' } })
const state = await made.get()
const { UUID } = state.data
assert.deepEqual([state.data.status, state.data.mode, state.uri.endsWith(`/subscriptions/${UUID}`)], ['active', 'continuous', true])
assert.equal(JSON.stringify(state.data).includes('token-of-the-sink'), false)
assert.equal((await state.follow('event-types').get()).uri, (await client.follow('event-types')).uri)
assert.equal((await client.follow('subscription', { uuid: UUID })).uri, made.uri)
const list = await subscriptions.refresh()
assert.deepEqual([list.data.totalCount, list.followAll('subscriptions').map((each) => each.uri)], [1, [made.uri]])
assert.equal((await made.patch({ data: { batchSize: 1 } })).data.UUID, UUID)
const resume = await made.follow('resume')
assert.equal((await resume.post({ data: { fromSequence: 0 } })).data.status, 'active')
assert.equal((await resume.post({})).data.status, 'active') // without a body
assert.equal((await made.post({ data: { status: 'active' } })).data.UUID, UUID)

// Cancelled as it was read; another of only one delivery, by its link.
const whole = await made.refresh()
await refused(made.put({ data: { ...whole.data, UUID: 'another' } }), 403, /UUID/)
await made.put({ serializeBody: () => whole.serializeBody() }) // put(whole) would send the Content-Length of what it read
const cancelled = await made.refresh()
assert.equal(cancelled.data.status, 'cancelled')
assert.ok(cancelled.data.message)
await made.put({ data: { UUID } })
await refused(resume.post({ data: {} }), 403, /cancel/)
const once = await subscriptions.postFollow({ data: { callbackUrl, mode: 'only-once', eventTypes: ['Property'] } })
assert.equal((await once.get()).data.mode, 'only-once')
await (await once.follow('cancel')).delete()
assert.equal((await once.refresh()).data.status, 'cancelled')
await refused(client.go(`${root}/subscriptions/00000000-0000-4000-8000-000000000000`).get(), 404, /./)

// Tasks: it comes from what was accepted to its task, and by a redirect to the result.
const tasks = await client.follow('tasks')
async function result(data) {
  const accepted = await tasks.post({ data })
  const task = accepted.follow('self')
  for (;;) {
    const now = await task.refresh({ headers: { Prefer: 'wait=10' } })
    if (now.data.status === undefined) return now
    assert.match(now.data.status, /^(accepted|running)$/)
  }
}
const { data: digest } = await result({ type: 'digest' })
assert.deepEqual([digest.resources.Property.count, digest.resources.Member.count], [250, 3])
const { data: snapshot } = await result({ type: 'snapshot', resources: ['Member'] }) // a Blob
const lines = (await snapshot.text()).trimEnd().split('\n').map((line) => JSON.parse(line))
assert.deepEqual(lines.map((line) => line.MemberKey).sort(), ['M0', 'M1', 'M2'])
const dropped = (await tasks.post({ data: { type: 'snapshot' } })).follow('self')
await dropped.delete()
await refused(dropped.get(), 422, /cancel/)
await refused(tasks.post({ data: { type: 'nonsense' } }), 403, /type/)
console.log('done')
