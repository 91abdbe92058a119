import { useEffect, useMemo, useState } from 'preact/hooks'
import { place } from './place.ts'

/** Which record is open, and which page: no part of any form. */
const BESIDE = ['open', 'cursor']

/** What is typed into a view's form and not asked for yet. It begins as the address has it, and follows where that changes. */
export function useDraft(): [draft: Readonly<Record<string, string>>, set: (changes: Record<string, string>) => void] {
  const asked = JSON.stringify(Object.entries(place.value.parameters).filter(([name]) => !BESIDE.includes(name)))
  const parameters = useMemo(() => Object.fromEntries(JSON.parse(asked) as [string, string][]), [asked])
  const [draft, setDraft] = useState<Record<string, string>>(parameters)
  useEffect(() => setDraft(parameters), [parameters])
  return [draft, (changes) => setDraft({ ...draft, ...changes })]
}
