/** SRV records. */
import { healthOrder } from "../../reading/levels.ts";
import { formatName, parseHostName } from "../names/names.ts";
import type { Subject } from "../plan/subject.ts";
import type { RecordContext, RecordOf } from "./record.ts";
import { withoutMaintenance } from "./shown.ts";
import { setTtlSeconds } from "./ttl.ts";

/** A record for each target of the subject. */
export function serviceRecords(subject: Subject, context: RecordContext): RecordOf<"SRV">[][] {
  if (subject.kind !== "entries" || subject.shape !== "located") return [];
  const targets = withoutMaintenance(subject.targets);
  const ttl = setTtlSeconds(targets, context.settings);
  const groups = new Map<number, RecordOf<"SRV">[]>();
  const seen = new Set<string>();
  for (const { entry, target, address } of targets) {
    const { priority, weight, port } = target;
    const name = address === undefined ? parseHostName(target.host) : formatName({ form: "address", address }, context.zone);
    // A host that DNS cannot write is left out, because the rest of the answer is still useful.
    if (name === undefined) continue;
    const data = { priority, weight, port, target: name };
    const identity = `${priority} ${weight} ${port} ${name}`;
    if (seen.has(identity)) continue;
    seen.add(identity);
    const rank = healthOrder(entry.health);
    const group = groups.get(rank) ?? [];
    if (group.length === 0) groups.set(rank, group);
    group.push({ type: "SRV", name: context.owner, ttlSeconds: ttl, data });
  }
  return byHealth([...groups.values()]);
}

/**
 * Gives groups, which come best health first, priorities in that order, because clients go by priority (RFC 2782). The first group keeps
 * the priorities of its targets. Each next group is moved behind the one before it, and keeps its order inside.
 */
function byHealth(groups: readonly RecordOf<"SRV">[][]): RecordOf<"SRV">[][] {
  let free = 0;
  const moved = groups.map((group) => {
    const priorities = group.map(({ data }) => data.priority);
    const by = Math.max(0, free - Math.min(...priorities));
    free = Math.max(...priorities) + by + 1;
    return by === 0 ? group : group.map((record) => withPriority(record, record.data.priority + by));
  });
  return free > HIGHEST_PRIORITY + 1 ? numbered(moved) : moved;
}

/** Numbers the priorities anew from 0, in the same order, when they do not fit into their field. There are fewer targets than numbers. */
function numbered(groups: readonly RecordOf<"SRV">[][]): RecordOf<"SRV">[][] {
  const used = new Set(groups.flat().map(({ data }) => data.priority));
  const numbers = new Map([...used].toSorted((a, b) => a - b).map((priority, i) => [priority, i]));
  return groups.map((group) => group.map((record) => withPriority(record, numbers.get(record.data.priority) ?? HIGHEST_PRIORITY)));
}

const HIGHEST_PRIORITY = 65_535;

function withPriority(record: RecordOf<"SRV">, priority: number): RecordOf<"SRV"> {
  return { ...record, data: { ...record.data, priority } };
}
