/** How long HTTP may keep answers of the gateway, beside what dns-packet reads of them. */
import packet, { type DecodedPacket } from "dns-packet";
import { expect, test } from "vitest";
import { Responder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/asker.ts";
import { freshSeconds } from "../../../src/dns/wire/freshness.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";

const catalog = new FakeDnsCatalog([
  entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] }),
  entryView({ name: "far", targets: [{ host: "db.example.com" }] }),
]);
const responder = new Responder({ settings: TEST_DNS_SETTINGS, planBytes: SETTINGS.dns.planBytes, random: () => 0.5, serialOf: () => 1 });

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
  "web.svc.market.waymark",
  "_svc._tcp.web.svc.market.waymark",
  "far.svc.market.waymark",
  "nope.svc.market.waymark",
  "waymark",
  "example.com",
])("answers about %s are kept for the least TTL, denials for that of the SOA, failures not at all", (name) => {
  for (const type of ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "PTR", "CNAME"]) {
    const bytes = answerTo(name, type);
    expect([type, freshSeconds(bytes)]).toEqual([type, model(bytes)]);
  }
});

test("a cut answer is not kept, and less than a header is none", () => {
  const whole = answerTo("web.svc.market.waymark", "A");
  expect(freshSeconds(whole)).toBeGreaterThan(0);
  expect([freshSeconds(whole.with(2, (whole[2] ?? 0) | 2)), freshSeconds(whole.subarray(0, 11))]).toEqual([undefined, undefined]);
});
