/** Questions that a responder is asked over TCP, and its answers as dns-packet reads them. */

import type { PlanCacheOptions } from "../../src/dns/cache/plan-cache.ts";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";
import { responseText } from "../fakes/dns-text.ts";
import { SETTINGS } from "../fakes/options.ts";

type DnsSettings = PlanCacheOptions["settings"];

/** Records as lines of a zone file, without their class. */
export interface Told {
  readonly rcode: string;
  readonly isAuthoritative: boolean;
  readonly isTruncated: boolean;
  readonly answers: readonly string[];
  readonly authority: readonly string[];
  readonly additional: readonly string[];
}

const TYPES = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, SVCB: 64, HTTPS: 65, ANY: 255 } as const;
export type AskedType = keyof typeof TYPES | number;

/** A question for a name whose odd bytes are written `\ddd`. */
export function questionBytes(type: AskedType, name: string, dnsClass = 1): Uint8Array {
  const labels = name === "" ? [] : name.split(".").map(labelBytes);
  const code = typeof type === "number" ? type : TYPES[type];
  const end = [0, code >> 8, code & 255, dnsClass >> 8, dnsClass & 255];
  return Uint8Array.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels.flatMap((label) => [label.length, ...label]), ...end]);
}

function labelBytes(label: string): readonly number[] {
  return [...label.matchAll(/\\(\d{3})|./g)].map(([char, code]) => (code === undefined ? char.charCodeAt(0) : Number(code)));
}

/** With the settings of tests unless it says otherwise; shuffles so that what was first stays first. */
export function newResponder(
  options: Partial<Omit<PlanCacheOptions, "settings">> & { readonly settings?: Partial<DnsSettings> } = {},
): DnsResponder {
  const { settings, ...rest } = options;
  const all = { ...TEST_DNS_SETTINGS, ...settings };
  return new DnsResponder({ planBytes: SETTINGS.dns.planBytes, random: () => 0.999_999, serialOf: () => 1, ...rest, settings: all });
}

export function ask(responder: DnsResponder, catalog: DnsCatalog, type: AskedType, name: string, dnsClass = 1): Told {
  const reply = responder.respond(questionBytes(type, name, dnsClass), "tcp", () => onlyView(catalog));
  if (reply === undefined) throw new Error("no answer");
  const [flags = "", ...lines] = responseText(reply.bytes).split("\n");
  const of = (section: string) => lines.flatMap((line) => (line.startsWith(section) ? [line.slice(11)] : []));
  const words = flags.split(" ");
  return {
    rcode: words[0] ?? "",
    isAuthoritative: words.includes("aa"),
    isTruncated: reply.isTruncated,
    answers: of("answer"),
    authority: of("authority"),
    additional: of("additional"),
  };
}

/** One word of each line: its name, its type (2), or the last of its data. */
export function wordOf(lines: readonly string[], at: number): readonly string[] {
  return lines.map((line) => line.split(" ").at(at) ?? "");
}
