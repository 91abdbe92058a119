import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { ApiError, UnreachableError } from '../client.ts'
import { leave } from './session.ts'
import { timeOf } from './words.ts'

/** What views are made of. */

/** In the viewer's zone; the exact time in UTC is at hand. */
export const Time = ({ iso }: { iso: string }) => (
  <time dateTime={iso} title={iso}>
    {timeOf(iso)}
  </time>
)

const TONES: Readonly<Record<string, string>> = {
  processed: 'good',
  reading: 'good',
  ready: 'good',
  'not ready': 'bad',
  running: 'warn',
  done: 'good',
  dead: 'bad',
  waiting: 'warn',
  paused: 'warn',
  pending: 'calm',
  restoring: 'calm',
  assigned: 'calm',
  draining: 'warn',
  'not assigned': 'bad',
  open: 'bad',
  redriven: 'good',
  discarded: 'calm',
}

/** A state: its word, and a colour. */
export const State = ({ state }: { state: string }) => <span class={`state ${TONES[state] ?? 'calm'}`}>{state}</span>

export const Loading = ({ what }: { what: string }) => (
  <p class="hint" role="status">
    <span class="spinner" aria-hidden="true" />
    {what}
  </p>
)

/** There is nothing to show: says why, and what to do. */
export const Empty = ({
  title,
  isPage = false,
  children,
}: {
  title: string
  /** There is nothing else on the page. */
  isPage?: boolean
  children?: ComponentChildren
}) => (
  <div class="empty">
    {isPage ? <h1>{title}</h1> : <p class="title">{title}</p>}
    {children}
  </div>
)

function titleOf(error: Error): string {
  if (error instanceof ApiError) return error.status >= 500 ? 'Not available now' : 'The request was refused'
  return error instanceof UnreachableError ? 'The console cannot be reached' : 'The page failed'
}

/** An error, with what to do about it. */
export function Problem({ error, again }: { error: Error; again?: (() => void) | undefined }) {
  const problem = error instanceof ApiError ? error : undefined
  const errors = (problem?.errors ?? []).filter(({ detail }) => !error.message.includes(detail))
  // Not where a stream's data is masked, which no key changes.
  if (problem?.status === 403 && problem.message.startsWith('The key'))
    return (
      <div class="empty" role="alert">
        <p class="title">Not allowed</p>
        <p>{problem.message}</p>
        <button type="button" onClick={leave}>
          Use another key
        </button>
      </div>
    )
  return (
    <div class="problem" role="alert">
      <p class="title">{titleOf(error)}</p>
      <p>
        <bdi>{error.message}</bdi>
      </p>
      {errors.length > 0 && (
        <ul>
          {errors.map(({ pointer, detail }) => (
            <li key={pointer + detail}>
              <code>{pointer}</code> {detail}
            </li>
          ))}
        </ul>
      )}
      {again !== undefined && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  )
}

/** What may be wider than its place: it scrolls, with the keyboard, too. */
export const Scrolls = ({ label, children }: { label: string; children: ComponentChildren }) => (
  // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and has to with the keyboard, too
  <section class="card scrolls" aria-label={label} tabIndex={0}>
    {children}
  </section>
)

/** Copies a text. */
export function Copy({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false)
  // Browsers have none on pages without TLS that are not of this machine.
  if (navigator.clipboard === undefined) return null
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(text)
    setCopied(true)
    setTimeout(() => setCopied(false), 1_500)
  }
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={copied ? `Copied ${what}` : `Copy ${what}`}>
      {copied ? 'copied' : 'copy'}
    </button>
  )
}

/** When a button that had the focus is gone, the view has it: keyboards and screen readers go on from there. */
export function useFocusKept(changes: readonly unknown[]): void {
  const isMounted = useRef(false)
  useEffect(() => {
    if (isMounted.current && document.activeElement === document.body) document.getElementById('main')?.focus()
    isMounted.current = true
  }, changes)
}

/** An input with its label. */
export function Field({
  label,
  value,
  onInput,
  placeholder = '',
  type = 'text',
  isWide = false,
  isFirst = false,
  isInvalid = false,
}: {
  label: string
  value: string
  onInput: (value: string) => void
  placeholder?: string
  type?: 'text' | 'password' | 'number'
  isWide?: boolean
  /** Of what was just opened: it gets the focus. */
  isFirst?: boolean
  isInvalid?: boolean
}) {
  const id = useId()
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => {
    if (isFirst) input.current?.focus()
  }, [])
  return (
    <div class={`field${isWide ? ' wide' : ''}`}>
      <label for={id}>{label}</label>
      <input
        ref={input}
        id={id}
        type={type as 'text'}
        value={value}
        placeholder={placeholder}
        autocomplete="off"
        spellcheck={false}
        aria-invalid={isInvalid}
        onInput={({ currentTarget }) => onInput(currentTarget.value)}
      />
    </div>
  )
}

/** One of several. */
export function Choice({
  label,
  value,
  options,
  onChange,
}: {
  label: string
  value: string
  options: readonly (readonly [value: string, text: string])[]
  onChange: (value: string) => void
}) {
  const id = useId()
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={({ currentTarget }) => onChange(currentTarget.value)}>
        {options.map(([one, text]) => (
          <option key={one} value={one}>
            {text}
          </option>
        ))}
      </select>
    </div>
  )
}
