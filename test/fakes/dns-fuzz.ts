/** Hostile DNS messages, and what must hold for each of them. */
import packet from "dns-packet";
import fc from "fast-check";
import { expect } from "vitest";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "./dns-catalog.ts";
import { queryBytes } from "./dns-text.ts";
import { SETTINGS } from "./options.ts";

const catalog = new FakeDnsCatalog([
  entryView({ name: "web", targets: Array.from({ length: 40 }, (_, i) => ({ host: `10.0.0.${i}` })), aliases: ["shop"] }),
  entryView({
    name: "site",
    targets: [
      { host: "10.1.0.1", port: 8443, protocol: "https" },
      { host: "b.example", protocol: "h2" },
    ],
  }),
  entryView({ name: "db", targets: [{ host: "db.example.com" }] }),
]);
const responder = new DnsResponder({
  settings: TEST_DNS_SETTINGS,
  planBytes: SETTINGS.dns.planBytes,
  random: () => 0.5,
  serialOf: () => 1,
});

/** A good query with a few bytes changed, cut, or added. */
export function mutatedQuery(): fc.Arbitrary<Uint8Array> {
  const seed = fc.record({
    name: fc.constantFrom(
      "web.market.waymark",
      "_svc._tcp.web.market.waymark",
      "shop.waymark",
      "waymark",
      "a.example.com",
      "db.market.waymark",
      "site.market.waymark",
      "_services._dns-sd._udp.market.waymark",
      "i1._svc._tcp.web.market.waymark",
    ),
    type: fc.constantFrom("A", "AAAA", "SRV", "TXT", "SOA", "SVCB", "HTTPS", "ANY", "MX", "PTR"),
    bufsize: fc.constantFrom(undefined, 512, 1232, 4096),
  });
  const change = fc.record({ at: fc.nat(80), value: fc.integer({ min: 0, max: 255 }) });
  return fc
    .tuple(seed, fc.array(change, { maxLength: 6 }), fc.nat(100), fc.uint8Array({ maxLength: 40 }))
    .map(([spec, changes, cutAt, tail]) => {
      const bytes = Uint8Array.from([...queryBytes(spec).subarray(0, cutAt < 60 ? undefined : cutAt), ...(cutAt % 3 === 0 ? tail : [])]);
      for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
}

/** Never a throw; no answer to responses; otherwise a response to that id that fits, and that another implementation can read. */
export function checkAnyBytes(bytes: Uint8Array): void {
  const reply = responder.respond(bytes, "udp", () => onlyView(catalog));
  const isAnswerable = bytes.length >= 12 && (bytes[2] ?? 0) < 0x80;
  expect(reply !== undefined).toBe(isAnswerable);
  if (reply === undefined) return;
  expect(reply.fault).toBeUndefined();
  expect(reply.bytes.length).toBeLessThanOrEqual(1232);
  expect([...reply.bytes.subarray(0, 2)]).toEqual([...bytes.subarray(0, 2)]);
  expect(packet.decode(Buffer.from(reply.bytes)).type).toBe("response");
}
