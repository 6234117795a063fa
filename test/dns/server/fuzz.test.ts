/** A hundred thousand queries that know what a query is made of: names, types, options and views, over UDP and TCP, whole and damaged. */
import packet from "dns-packet";
import { expect, test } from "vitest";
import { Responder } from "../../../src/dns/server/responder.ts";
import { onlyView, type Selected } from "../../../src/dns/views/asker.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { runs } from "../../fakes/effort.ts";
import { SETTINGS } from "../../fakes/options.ts";

const SECRET = "hidden-host";
const shared = [
  entryView({ name: "web", targets: Array.from({ length: 40 }, (_, i) => ({ host: `10.0.0.${i}` })), aliases: ["shop"] }),
  entryView({ name: "db", targets: [{ host: "db.example.com" }], tags: ["x".repeat(200)] }),
];
/** What only the second view shows. */
const own = entryView({ name: "own", targets: [{ host: `${SECRET}.example.com` }] });
const catalogs = [
  new FakeDnsCatalog(shared),
  Object.assign(new FakeDnsCatalog([...shared, own]), { view: { index: 1, locality: undefined, answerLimit: 5 } }),
];
const NAMES = [
  "web.market.waymark",
  "_svc._tcp.web.market.waymark",
  "shop.waymark",
  "waymark",
  "example.com",
  "db.market.waymark",
  "own.market.waymark",
  "market.waymark",
  "10-0-0-1.addr.node.waymark",
  "",
  "nope.waymark",
];
const TYPES = [1, 2, 5, 6, 12, 16, 28, 33, 41, 64, 65, 250, 251, 252, 255, 257, 65_535];
const CODES = [3, 5, 8, 9, 10, 11, 12, 15, 65_001];

function query(rng: Rng): Uint8Array {
  const bytes = [...queryBytes({ name: NAMES[rng.int(NAMES.length)] ?? "", type: "A", id: rng.int(65_536) })];
  const type = TYPES[rng.int(TYPES.length)] ?? 1;
  bytes.splice(-4, 2, type >> 8, type & 255);
  // The case of letters comes back.
  for (let i = 13; i < bytes.length - 4; i++)
    if (rng.int(4) === 0 && (bytes[i] ?? 0) >= 97 && (bytes[i] ?? 0) <= 122) bytes[i] = (bytes[i] ?? 0) - 32;
  for (let opts = [0, 1, 1, 1, 2][rng.int(5)] ?? 0; opts > 0; opts--) {
    const data: number[] = [];
    for (let options = rng.int(4); options > 0; options--) {
      const code = CODES[rng.int(CODES.length)] ?? 0;
      const length = rng.int(3) === 0 ? rng.int(45) : code === 10 ? ([8, 24, 16, 40][rng.int(4)] ?? 8) : code === 8 ? 7 : 0;
      const value = Array.from({ length }, () => rng.int(256));
      if (code === 8 && length === 7 && rng.int(2) === 0) value.splice(0, 4, 0, 1, 24, 0);
      data.push(code >> 8, code & 255, 0, length, ...value);
    }
    const size = [0, 511, 512, 1232, 4096, 65_535][rng.int(6)] ?? 0;
    bytes.push(
      0,
      0,
      41,
      size >> 8,
      size & 255,
      0,
      rng.int(8) === 0 ? rng.int(256) : 0,
      rng.int(256),
      rng.int(256),
      data.length >> 8,
      data.length & 255,
      ...data,
    );
    bytes[11] = (bytes[11] ?? 0) + 1;
  }
  if (rng.int(6) === 0) for (let n = 1 + rng.int(4); n > 0; n--) bytes[rng.int(bytes.length)] = rng.int(256);
  return Uint8Array.from(rng.int(8) === 0 ? bytes.slice(0, rng.int(bytes.length + 1)) : bytes);
}

test("queries of all types, options and views, whole and damaged: no throw, the right id and question, nothing over its limit, nothing of another view", () => {
  const rng = new Rng("dns fuzz");
  const responder = new Responder({ settings: TEST_DNS_SETTINGS, planBytes: SETTINGS.dns.planBytes, random: () => rng.next() });
  const rcodes = new Set<string>();
  const count = runs(100_000);
  for (let i = 0; i < count; i++) {
    const bytes = query(rng);
    const transport = rng.int(3) === 0 ? "tcp" : "udp";
    const index = rng.int(2);
    const selected: Selected = rng.int(50) === 0 ? { refused: 18 } : onlyView(catalogs[index] ?? catalogs[0]!);
    const reply = responder.respond(bytes, transport, () => selected);
    const text = () => `packet ${i}: ${Buffer.from(bytes).toString("hex")}`;
    if (reply === undefined) {
      if (bytes.length >= 12 && (bytes[2] ?? 0) < 0x80) expect.fail(`no answer to ${text()}`);
      continue;
    }
    rcodes.add(reply.rcode);
    const response = Buffer.from(reply.bytes);
    // Without an OPT record, and no other additional records, a response over UDP has at most 512 bytes.
    const limitBytes = transport === "tcp" ? 65_535 : response.readUInt16BE(10) === 0 ? 512 : 1232;
    const isLong = response.length > limitBytes;
    const isOther = response[0] !== bytes[0] || response[1] !== bytes[1] || (response[2] ?? 0) < 0x80;
    if (reply.fault !== undefined || isLong || isOther) expect.fail(`${String(reply.fault)} ${response.length} bytes, ${text()}`);
    if (response.readUInt16BE(4) === 1) {
      let end = 12;
      while ((bytes[end] ?? 0) > 0) end += 1 + (bytes[end] ?? 0);
      if (!response.subarray(12, end + 5).equals(Buffer.from(bytes.subarray(12, end + 5)))) expect.fail(`another question, ${text()}`);
    }
    if (index === 0 && response.includes(SECRET)) expect.fail(`another view, ${text()}`);
    if (i % 20 === 0) expect(packet.decode(response).type).toBe("response");
  }
  expect([...rcodes].toSorted()).toEqual(["FORMERR", "NOERROR", "NOTIMP", "NXDOMAIN", "REFUSED", "other"]);
}, 120_000);
