// @azure/core-lro: a poller that is given how to send a request, and does the rest by itself.
import assert from 'node:assert/strict'
import { renameSync, writeFileSync } from 'node:fs'
import { createHttpPoller } from '@azure/core-lro'

const { URL: root, TOKEN: token, RESULTS: results } = process.env
async function send(method, url, data, abortSignal) {
  const answer = await fetch(new URL(url, root), {
    method,
    headers: { Authorization: `Bearer ${token}`, Accept: 'application/json', ...(data && { 'Content-Type': 'application/json' }) },
    body: data && JSON.stringify(data),
    signal: abortSignal,
  })
  const text = await answer.text()
  const body = text && /\bjson$/.test(answer.headers.get('content-type')) ? JSON.parse(text) : text
  return { flatResponse: body, rawResponse: { statusCode: answer.status, headers: Object.fromEntries(answer.headers), body, request: { method, url } } }
}
const operation = (data) => ({
  sendInitialRequest: () => send('POST', `${root}/tasks`, data),
  sendPollRequest: (url, { abortSignal } = {}) => send('GET', url, undefined, abortSignal),
})
const poll = (data, options) => createHttpPoller(operation(data), { intervalInMs: 10, ...options })

// A snapshot, with what is told on the way.
const told = []
const snapshot = poll({ type: 'snapshot' }, { updateState: (state, { rawResponse }) => told.push([state.status, rawResponse.statusCode]) })
const { status, count, href, sequence, through, log } = await snapshot.pollUntilDone()
assert.deepEqual([status, count, told.at(-1)], ['succeeded', 283, ['succeeded', 200]])
assert.ok(told.slice(0, -1).every(([status, code]) => status === 'running' && code === 202), JSON.stringify(told))
assert.ok(sequence > 0 && through >= sequence && log)
const { rawResponse: got } = await send('GET', new URL(href, `${root}/tasks`))
assert.equal(got.statusCode, 200)
const lines = got.body.trimEnd().split('\n').map((line) => JSON.parse(line))
assert.deepEqual([lines.length, got.headers['entityevent-log'], got.headers['entityevent-after'], got.headers['entityevent-through']], [count, log, String(sequence), String(through)])

// A poller that goes on in another process, and comes to the same result.
const first = poll({ type: 'digest', resources: ['Property'] })
await first.submitted()
const again = createHttpPoller(operation(), { intervalInMs: 10, restoreFrom: await first.serialize() })
assert.deepEqual(await again.pollUntilDone(), await first.pollUntilDone())

// One that is cancelled, and one that fails: a file is where results should go.
const dropped = poll({ type: 'snapshot' })
await dropped.submitted()
assert.equal((await send('DELETE', dropped.operationState.config.operationLocation)).rawResponse.statusCode, 204)
await assert.rejects(dropped.pollUntilDone(), /cancelled\. It was cancelled/)
renameSync(results, `${results}.before`) // in which the cancelled one may still write
writeFileSync(results, '')
const failing = poll({ type: 'snapshot' })
await assert.rejects(failing.pollUntilDone(), /failed\. The producer could not write the result/)
for (const poller of [dropped, failing]) assert.deepEqual([poller.operationState.status, poller.isDone], ['failed', true])
console.log('done')
