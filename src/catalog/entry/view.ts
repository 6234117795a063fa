/** A decoded entry as plain values, for rooms that need its fields (DNS, select, listings). */
import { type EntryFields, type LoadReportFields, newEntry, type TargetFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { protocolOf, type Transport } from "../../lib/protocols.ts";
import type { EntryKey, Health } from "../record/record.ts";
import type { Scope } from "./scope.ts";

export type TargetView = TargetFields;

export interface LoadView extends Omit<LoadReportFields, "observedAt"> {
  readonly observedWallMs: number;
}

/** Fields that may be large, and that few readers need. */
export type LargeFields = Pick<EntryFields, "aliases" | "capabilities" | "detail" | "metadata" | "tags">;

/** The fields of an entry that answers need from every instance of a name. `read` gives the others. */
export interface EntryView extends Pick<EntryFields, "nodeId" | "region" | "targets" | "zone"> {
  readonly key: EntryKey;
  readonly scope: Scope;
  /** Advice to caches. Undefined if the entry has none. */
  readonly ttlMs: number | undefined;
  /** The health that readers see: ORPHANED while the origin is away. */
  readonly health: Health;
  readonly load: LoadView | undefined;
  /** When its node last changed anything of it, by the clock of that node. Undefined where nobody said. */
  readonly updatedWallMs?: number | undefined;
  /** Decodes a large field, again at each call. For an entry of the catalog only in the turn in which that was read, because its bytes are not kept. */
  readonly read: <F extends keyof LargeFields>(field: F) => LargeFields[F];
}

/** The version of a FUNCTION. Empty without a version and for other kinds. */
export function versionOf({ detail }: Pick<EntryFields, "detail">): string {
  return detail.case === "function" ? detail.value.version : "";
}

/** An entry made of targets, for an answer about a name that has no entry in the catalog. */
export function viewOfPlaces(
  targets: readonly TargetView[],
  facts: Pick<EntryView, "health" | "key" | "region" | "scope" | "ttlMs">,
): EntryView {
  return { nodeId: "", zone: "", ...facts, load: undefined, targets, read: (field) => newEntry()[field] };
}

// The words under which an entry is found by transport and port. They are made once, when the entry arrives, so that a question need not
// decode it.

/** A leading space makes these words unlike any name. */
const TRANSPORT_WORDS = { tcp: " tcp", udp: " udp", sctp: " sctp" } as const satisfies Record<Transport, string>;

export const TRANSPORTS: readonly Transport[] = ["tcp", "udp", "sctp"];

/** The words of an entry with one plain target, as most have. */
export const PLAIN_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp];
/** The words of an entry without targets. DNS lists its TXT records under TCP, and no query uses the second word. */
export const NO_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp, " none"];

/** The word of an entry with a target that has no port. */
const NO_PORT_WORD = " -";

const LOWER_CASE_BIT = 0x20;
const SMALL_S = 0x73;
const SMALL_U = 0x75;

export function transportOf({ protocol }: Pick<TargetView, "protocol">): Transport {
  // HOT: no lower-case copy unless the protocol begins with u or s (bench/codec.ts).
  const first = protocol.charCodeAt(0) | LOWER_CASE_BIT;
  if (first !== SMALL_S && first !== SMALL_U) return "tcp";
  return protocolOf(protocol).transport;
}

/** The word of a named port, or of a transport. */
export function portWord(transport: Transport, port?: string): string {
  if (port === undefined) return TRANSPORT_WORDS[transport];
  // HOT: most ports use TCP, and an unchanged name costs nothing (bench/codec.ts).
  return transport === "tcp" ? port : `${port} ${transport}`;
}

/** Whether this target has a port. */
export function hasPort({ port }: { readonly port: number }): boolean {
  return port !== 0;
}

/** The transports of the targets, and their named ports. Port names are unique in an entry. */
export function portWords(targets: readonly Pick<TargetView, "name" | "port" | "protocol">[]): readonly string[] {
  if (targets.length === 0) return NO_PORTS;
  if (targets.every((target) => target.name === "" && hasPort(target) && transportOf(target) === "tcp")) return PLAIN_PORTS;
  const words: string[] = [];
  for (const target of targets) {
    const transport = transportOf(target);
    if (!words.includes(TRANSPORT_WORDS[transport])) words.unshift(TRANSPORT_WORDS[transport]);
    if (target.name !== "") words.push(portWord(transport, target.name));
    if (!hasPort(target) && !words.includes(NO_PORT_WORD)) words.push(NO_PORT_WORD);
  }
  return words;
}
