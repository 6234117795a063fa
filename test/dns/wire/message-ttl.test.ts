/** How long HTTP may keep answers of the gateway, beside what dns-packet reads of them. */
import packet, { type DecodedPacket } from "dns-packet";
import { expect, test } from "vitest";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { minTtlSeconds } from "../../../src/dns/wire/message-ttl.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";

const catalog = new FakeDnsCatalog([
  entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] }),
  entryView({ name: "short", ttlMs: 2000, aliases: ["long"], targets: [{ host: "10.0.0.3" }] }),
  entryView({ name: "far", targets: [{ host: "db.example.com" }] }),
]);
const responder = new DnsResponder({
  settings: TEST_DNS_SETTINGS,
  planBytes: SETTINGS.dns.planBytes,
  random: () => 0.5,
  serialOf: () => 1,
});

function answerTo(name: string, type: string): Buffer {
  return Buffer.from(responder.respond(queryBytes({ name, type, bufsize: 1232 }), "doh", () => onlyView(catalog))?.bytes ?? []);
}

/** As RFC 8484, 5.1 says it. */
function model(bytes: Buffer): number | undefined {
  const { answers = [], authorities = [], rcode, flag_tc } = packet.decode(bytes) as DecodedPacket & { readonly rcode?: string };
  if (flag_tc || (rcode !== "NOERROR" && rcode !== "NXDOMAIN")) return undefined;
  const ttls = answers.map((record) => ("ttl" in record ? (record.ttl ?? 0) : 0));
  for (const record of authorities) if (record.type === "SOA") ttls.push(Math.min(record.ttl ?? 0, record.data.minimum ?? 0));
  return ttls.length === 0 ? undefined : Math.min(...ttls);
}

test.each([
  "web.market.waymark",
  "_svc._tcp.web.market.waymark",
  "far.market.waymark",
  "long.waymark",
  "nope.market.waymark",
  "waymark",
  "example.com",
])("answers about %s are kept for the least TTL, denials for that of the SOA, failures not at all", (name) => {
  for (const type of ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "PTR", "CNAME"]) {
    const bytes = answerTo(name, type);
    expect([type, minTtlSeconds(bytes)]).toEqual([type, model(bytes)]);
  }
});

/** A record of a message that is no answer of ours: name, type, class, TTL and data. */
const record = (type: number, ttl: number, data: readonly number[]) => [0, 0, type, 0, 1, 0, 0, 0, ttl, 0, data.length, ...data];
const header = (answers: number, authorities: number) => [0, 1, 0x84, 0, 0, 0, 0, answers, 0, authorities, 0, 0];
const soa = (ttl: number, minimum: number) => record(6, ttl, [0, 0, ...Array.from({ length: 19 }, () => 0), minimum]);

test.each([
  { what: "the least is the first", bytes: [...header(2, 0), ...record(1, 3, [1, 2, 3, 4]), ...record(1, 9, [1, 2, 3, 5])], want: 3 },
  { what: "the least is the last", bytes: [...header(2, 0), ...record(1, 9, [1, 2, 3, 4]), ...record(1, 3, [1, 2, 3, 5])], want: 3 },
  { what: "a denial of which the SOA is kept longer than it says", bytes: [...header(0, 1), ...soa(9, 3)], want: 3 },
  { what: "a denial of which the SOA is kept shorter than it says", bytes: [...header(0, 1), ...soa(3, 9)], want: 3 },
  { what: "an alias of what is not there", bytes: [...header(1, 1), ...record(5, 2, [0]), ...soa(9, 9)], want: 2 },
])("$what", ({ bytes, want }) => {
  expect([minTtlSeconds(Uint8Array.from(bytes)), model(Buffer.from(bytes))]).toEqual([want, want]);
});

test("a cut answer is not kept, and less than a header is none", () => {
  const whole = answerTo("web.market.waymark", "A");
  expect(minTtlSeconds(whole)).toBeGreaterThan(0);
  expect([minTtlSeconds(whole.with(2, (whole[2] ?? 0) | 2)), minTtlSeconds(whole.subarray(0, 11))]).toEqual([undefined, undefined]);
});
