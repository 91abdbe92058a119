import { createHash } from 'node:crypto'

/** `GET /docs`: renders the service's `/openapi.json` and sends the requests that it describes. It loads nothing from other hosts, and its headers forbid that. */

const STYLE = `
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5a6675; --line: #dfe4ea; --paper: #fff; --wash: #f5f7f9; --accent: #0b6e6e; --code: #0d3b4f }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #2b3540; --paper: #12181f; --wash: #19212a; --accent: #4fc3b5; --code: #a9d8e8 } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
header, main { max-width: 960px; margin: 0 auto; padding: 0 24px }
header { padding-top: 40px }
h1 { font-size: 28px; margin: 0 } h2 { font-size: 19px; margin: 40px 0 12px } h3 { font-size: 15px; margin: 24px 0 8px }
p { margin: 6px 0; color: var(--soft) }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, monospace; color: var(--code) }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; overflow: auto; margin: 8px 0 }
section { border: 1px solid var(--line); border-radius: 8px; padding: 16px 20px; margin: 16px 0 }
.path { display: flex; gap: 10px; align-items: baseline; font-weight: 600; flex-wrap: wrap }
.method { background: var(--accent); color: var(--paper); border-radius: 4px; padding: 1px 8px; font: 600 12px/1.7 ui-monospace, monospace }
table { border-collapse: collapse; width: 100%; margin: 8px 0 }
td, th { text-align: left; vertical-align: top; padding: 6px 12px 6px 0; border-top: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap } td { color: var(--soft) }
.status { font: 600 13px/1.6 ui-monospace, monospace; color: var(--ink) }
details > summary { cursor: pointer; font-weight: 600; padding: 6px 0 }
.tabs { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0 }
.tabs button { font: 13px ui-monospace, monospace; border: 1px solid var(--line); background: var(--wash); color: var(--ink); border-radius: 5px; padding: 3px 9px; cursor: pointer }
.tabs button[aria-pressed=true] { border-color: var(--accent); color: var(--accent) }
label { display: block; margin: 10px 0 2px; font-weight: 600; font-size: 13px }
input, textarea { width: 100%; font: 13px/1.5 ui-monospace, monospace; color: var(--code); background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: 7px 10px; resize: vertical }
.send { display: flex; gap: 12px; align-items: center; margin: 12px 0 4px }
.send button { font: 600 14px system-ui, sans-serif; color: var(--paper); background: var(--accent); border: 0; border-radius: 6px; padding: 7px 18px; cursor: pointer }
.send button:disabled { opacity: .5 }
`

// Everything is inserted as text, so that nothing in the description becomes markup.
const SCRIPT = String.raw`
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) name.startsWith('on') ? node.addEventListener(name.slice(2), value) : node.setAttribute(name, value)
  node.append(...children.filter((child) => child !== undefined && child !== null))
  return node
}
const rows = (entries) => el('table', {}, ...entries.map(([head, ...cells]) => el('tr', {}, el('th', {}, head), ...cells.map((cell) => el('td', {}, cell ?? '')))))
const code = (text) => el('code', {}, text)
const named = (schema) => schema.$ref ? schema.$ref.split('/').pop()
  : schema.const !== undefined ? JSON.stringify(schema.const)
  : schema.anyOf || schema.oneOf ? (schema.anyOf ?? schema.oneOf).map(named).join(' or ')
  : schema.allOf ? schema.allOf.map(named).join(' and ')
  : schema.type === 'array' ? 'array of ' + named(schema.items) : (schema.title ?? schema.type ?? 'any') + (schema.format ? ' (' + schema.format + ')' : '')
const members = (schema) => rows(Object.entries(schema.properties ?? {}).map(([name, one]) => [code(name + ((schema.required ?? []).includes(name) ? ' *' : '')), named(one), one.description]))
const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'"
const labelled = (label, input) => [el('label', { for: input.id }, label), input]
const tryOut = (path, method, content, parameters) => {
  const id = (name) => name + '-' + method + path.replaceAll(/[^a-z0-9]/g, '-')
  const update = () => { shown.textContent = curl() }
  const inputs = parameters.filter((p) => p.in === 'path' || p.in === 'query')
    .map((p) => ({ ...p, input: el('input', { id: id(p.name), value: p.name === 'stream' && p.in === 'path' ? 'events' : '', oninput: update }) }))
  const key = api.security.length > 0 ? el('input', { id: id('key'), type: 'password', autocomplete: 'off' }) : undefined
  const head = el('textarea', { id: id('head'), rows: 2, spellcheck: 'false', oninput: update })
  const body = content ? el('textarea', { id: id('body'), rows: 6, spellcheck: 'false', oninput: update }) : undefined
  const shown = el('pre')
  const status = el('span', { class: 'status', role: 'status' })
  const answer = el('pre', { class: 'answer', hidden: '' })
  const url = () => {
    const query = new URLSearchParams(inputs.filter((one) => one.in === 'query' && one.input.value !== '').map((one) => [one.name, one.input.value])).toString()
    return location.origin + path.replaceAll(/{(\w+)}/g, (_, name) => encodeURIComponent(inputs.find((one) => one.name === name)?.input.value ?? '')) + (query && '?' + query)
  }
  const fields = () => head.value.split('\n').flatMap((line) => {
    const colon = line.indexOf(':')
    return colon > 0 ? [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()]] : []
  })
  const curl = () => ['curl ' + (method === (body ? 'post' : 'get') ? '' : '-X ' + method.toUpperCase() + ' ') + quoted(url()), ...(key ? [['Authorization', 'Bearer <key>'], ...fields()] : fields()).map((one) => '-H ' + quoted(one.join(': '))), ...(body ? ['--data-binary ' + quoted(body.value)] : [])].join(' \\\n  ')
  let sending
  const send = async () => {
    if (sending) return sending.abort()
    sending = new AbortController()
    button.textContent = 'Stop'
    status.textContent = 'Sending'
    try {
      const authorization = key?.value ? [['Authorization', 'Bearer ' + key.value]] : []
      const response = await fetch(url(), { method: method.toUpperCase(), headers: [...fields(), ...authorization], body: body?.value, credentials: 'omit', signal: sending.signal })
      status.textContent = response.status + ' ' + response.statusText
      answer.textContent = [...response.headers].map((one) => one.join(': ')).join('\n') + '\n\n'
      answer.hidden = false
      // In parts: some answers have no end.
      const parts = response.body?.pipeThrough(new TextDecoderStream()).getReader()
      for (let part = await parts?.read(); part && !part.done; part = await parts.read()) answer.textContent = (answer.textContent + part.value).slice(0, 1000000)
    } catch (error) {
      if (!sending.signal.aborted) {
        answer.textContent = String(error)
        status.textContent = 'No answer'
      }
    }
    answer.hidden = false
    sending = undefined
    button.textContent = 'Send'
  }
  const button = el('button', { type: 'button', onclick: send }, 'Send')
  const types = Object.entries(content ?? {}).map(([type, one]) => {
    const example = one.example ?? Object.values(one.examples ?? {})[0]?.value ?? {}
    const choose = () => {
      head.value = 'Content-Type: ' + type
      body.value = typeof example === 'string' ? example : JSON.stringify(example, null, 2)
      for (const other of types) other.setAttribute('aria-pressed', other === chosen)
      update()
    }
    const chosen = el('button', { type: 'button', onclick: choose }, type)
    return chosen
  })
  types[0]?.click()
  update()
  return el('div', {}, el('div', { class: 'tabs' }, ...types), ...inputs.flatMap((one) => labelled(one.name + (one.required ? ' *' : ''), one.input)), ...(key ? labelled('Key', key) : []),
    ...labelled('Header fields, one a line', head), ...(body ? labelled('Body', body) : []), el('div', { class: 'send' }, button, status), answer, el('p', {}, 'The same with curl:'), shown)
}
const resolved = (one) => one.$ref ? one.$ref.split('/').slice(1).reduce((at, name) => at[name], api) : one
const operation = (path, method, one, parameters) => el('section', {},
  el('div', { class: 'path' }, el('span', { class: 'method' }, method.toUpperCase()), code(path)),
  el('p', {}, one.summary + '.'), one.description ? el('p', {}, one.description.replaceAll('\`', '')) : undefined,
  method === 'options' ? undefined : tryOut(path, method, one.requestBody?.content, parameters),
  parameters.length > 0 ? el('details', {}, el('summary', {}, 'Parameters'), rows(parameters.map((p) => [code(p.name + (p.required ? ' *' : '')), p.in, p.description]))) : undefined,
  el('details', method === 'options' ? {} : { open: '' }, el('summary', {}, 'Answers'), rows(Object.entries(one.responses).map(([status, r]) => [el('span', { class: 'status' }, status), resolved(r).description.replaceAll('\`', '')]))))
const api = await (await fetch('openapi.json')).json()
document.querySelector('h1').textContent = api.info.title
document.querySelector('#about').append(el('p', {}, api.info.summary), el('p', {}, api.info.description))
const main = document.querySelector('main')
main.append(el('h2', {}, 'Requests'))
for (const [path, item] of Object.entries(api.paths))
  for (const method of ['get', 'post', 'put', 'delete', 'options'])
    if (item[method]) main.append(operation(path, method, item[method], [...(item.parameters ?? []), ...(item[method].parameters ?? [])].map(resolved)))
main.append(el('h2', {}, 'Schemas'))
for (const [name, schema] of Object.entries(api.components.schemas))
  main.append(el('section', {}, el('div', { class: 'path' }, code(name)), schema.description ? el('p', {}, schema.description) : undefined,
    ...(schema.anyOf ? schema.anyOf.map((one) => members(resolved(one))) : [members(schema)])))
`

const HTML = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>KafkaTrace API</title><style>${STYLE}</style></head>
<body><header><h1>KafkaTrace</h1><div id="about"></div></header><main></main>
<noscript><main><p>This page draws <a href="openapi.json">openapi.json</a> and needs JavaScript for it.</p></main></noscript>
<script type="module">${SCRIPT}</script></body></html>
`

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

export const docsPage = (): { html: string; headers: Record<string, string> } => ({
  html: HTML,
  headers: {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': `default-src 'none'; connect-src 'self'; style-src ${hashOf(STYLE)}; script-src ${hashOf(SCRIPT)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  },
})
