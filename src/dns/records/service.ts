/** SRV records. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { hasPort } from "../../catalog/entry/view.ts";
import { effectiveWeights } from "../../reading/targets.ts";
import { formatName, parseHostName } from "../names/names.ts";
import type { Subject, SubjectTarget } from "../subject/subject.ts";
import type { RecordContext, RecordOf } from "./record.ts";
import { setTtlSeconds } from "./record.ts";
import { bestTargets, ownPriority, rankOf } from "./shown.ts";

/** A record for each target of the subject that has a port; with `srvTiers` best, only for targets of the best tier. Targets of the same tier, distance and priority form a group, and clients prefer earlier groups. Weights count within a group (RFC 2782). */
export function serviceRecords(subject: Subject, context: RecordContext): RecordOf<"SRV">[][] {
  if (subject.kind !== "entries" || subject.shape !== "located") return [];
  const { owner, locality, settings } = context;
  const shown: EntryView[] = [];
  const groups = new Map<string, RecordOf<"SRV">["data"][]>();
  const seen = new Set<string>();
  const targets = subject.targets.filter(({ target }) => hasPort(target));
  for (const { rank, one, weight } of byRank(settings.srvTiers === "best" ? bestTargets(targets) : targets, locality)) {
    const name = targetName(one, context);
    // A host that DNS cannot write is left out, because the rest of the answer is still useful.
    if (name === undefined) continue;
    shown.push(one.entry);
    const { priority, port } = one.target;
    const told = settings.srvPriority === "target" ? priority : rank + ownPriority(one);
    // A set has no record twice (RFC 2181, 5). Of names in other letters the first spelling is told.
    const data = `${weight} ${port} ${name.toLowerCase()}`;
    if (seen.has(`of ${priority} ${data}`) || seen.has(`told ${told} ${data}`)) continue;
    seen.add(`of ${priority} ${data}`);
    seen.add(`told ${told} ${data}`);
    const key = `${rank} ${told}`;
    const group = groups.get(key) ?? [];
    if (group.length === 0) groups.set(key, group);
    group.push({ priority: told, weight, port, target: name });
  }
  const ttl = setTtlSeconds(shown, settings);
  return [...groups.values()].map((group) => group.map((data) => ({ type: "SRV", name: owner, ttlSeconds: ttl, data })));
}

/** The name of a target: its host, or one of ours for its address. Undefined for a host that DNS cannot write. */
function targetName({ target, address }: SubjectTarget, { zone }: RecordContext): string | undefined {
  return address === undefined ? parseHostName(target.host) : formatName({ form: "address", address }, zone);
}

/** The sort keeps the catalog's order within a priority of a rank. */
function byRank(targets: readonly SubjectTarget[], locality: RecordContext["locality"]) {
  const weights = effectiveWeights(targets);
  const ranked = targets.map((one, i) => ({ rank: rankOf(one, locality), one, weight: weights[i] ?? 0 }));
  return ranked.toSorted((a, b) => a.rank - b.rank || a.one.target.priority - b.one.target.priority);
}
