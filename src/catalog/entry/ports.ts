/** Under which transports and ports an entry is found: words that are made once, when it comes, so that a question need not look into it. */
import type { TargetView } from "./view.ts";

export type Transport = "tcp" | "udp" | "sctp";

/** No name has a space. */
const TRANSPORT_WORDS = { tcp: " tcp", udp: " udp", sctp: " sctp" } as const satisfies Record<Transport, string>;

/** Of an entry with one plain target, as most have, and of one without targets: its texts stand under TCP. */
export const PLAIN_PORTS: readonly string[] = [TRANSPORT_WORDS.tcp];

const LOWER_CASE_BIT = 0x20;
const SMALL_S = 0x73;
const SMALL_U = 0x75;

export function transportOf({ protocol }: Pick<TargetView, "protocol">): Transport {
  // HOT: no lower-case copy of what begins with neither u nor s (bench/codec.ts).
  const first = protocol.charCodeAt(0) | LOWER_CASE_BIT;
  if (first !== SMALL_S && first !== SMALL_U) return "tcp";
  const text = protocol.toLowerCase();
  return text === "udp" || text === "sctp" ? text : "tcp";
}

/** The word of a named port, or of a transport. */
export function portWord(transport: Transport, port?: string): string {
  if (port === undefined) return TRANSPORT_WORDS[transport];
  // HOT: most ports are of TCP, and a name as it is costs nothing (bench/codec.ts).
  return transport === "tcp" ? port : `${port} ${transport}`;
}

/** Each transport that the targets have, and each named port; names are unique in an entry. */
export function portWords(targets: readonly Pick<TargetView, "name" | "protocol">[]): readonly string[] {
  if (targets.every((target) => target.name === "" && transportOf(target) === "tcp")) return PLAIN_PORTS;
  const words: string[] = [];
  for (const target of targets) {
    const transport = transportOf(target);
    if (!words.includes(TRANSPORT_WORDS[transport])) words.unshift(TRANSPORT_WORDS[transport]);
    if (target.name !== "") words.push(portWord(transport, target.name));
  }
  return words;
}
