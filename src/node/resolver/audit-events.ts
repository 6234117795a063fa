/** What a resolver tells its audit log of what it does by itself: nobody called for it (semantics.md, Resolver 18 and 21). */
import type { Time } from "../../lib/machine.ts";
import { type AuditEvent, NODE_ACT } from "../../policy/audit/record.ts";
import type { ResyncOrder } from "../../resolver/upkeep/resync-notes.ts";

/** A copy on disk is served. `ageMs`: infinite while it is unknown. */
export function replayEvent(
  { entryCount, ageMs }: { readonly entryCount: number; readonly ageMs: number },
  { wallMs }: Pick<Time, "wallMs">,
): AuditEvent {
  const age = Number.isFinite(ageMs) ? `${Math.round(ageMs)} ms old` : "of unknown age";
  return { ...NODE_ACT, atWallMs: wallMs, action: "resolver.replay", detail: `${entryCount} entries, ${age}` };
}

/** Namespaces are fetched whole again. */
export function resyncEvent({ reason, upstream, prefixes, times }: ResyncOrder, { wallMs }: Pick<Time, "wallMs">): AuditEvent {
  const namespace = prefixes.length === 1 ? (prefixes[0] ?? "") : "";
  const whole = prefixes.map((prefix) => (prefix === "" ? "all" : prefix)).join(", ");
  const often = times === 1 ? "" : `, the last of ${times} times since the record before`;
  return { ...NODE_ACT, atWallMs: wallMs, action: "cache.resync", namespace, reason, detail: `from ${upstream}${often}: ${whole}` };
}
