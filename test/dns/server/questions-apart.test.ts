/** One responder reads, judges and answers all questions of a gateway with the same few objects. Nothing of a question may be left for the next one. */
import { expect, test } from "vitest";
import { DnsResponder, type QuerySender } from "../../../src/dns/server/responder.ts";
import { ResponseRates } from "../../../src/dns/server/response-rate.ts";
import { ZoneSigner } from "../../../src/dns/signing/zone-signer.ts";
import { PendingNameError } from "../../../src/dns/subject/remote-lookup.ts";
import { onlyView, type ViewSelection } from "../../../src/dns/views/query-client.ts";
import type { DnsTransport } from "../../../src/dns/wire/response.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { signedQuery, TestKeys, TYPE } from "../../fakes/dnssec.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { NOW, SECRET, signedBy } from "../../fakes/tsig.ts";
import { questionBytes } from "../asking.ts";

const NAME = "web.market.waymark";
const catalog = new FakeDnsCatalog([
  entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }, { host: "10.0.0.3" }] }),
  entryView({ name: "big", targets: Array.from({ length: 100 }, (_, i) => ({ host: `10.0.1.${i}` })) }),
]);
const limited = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] })], {
  index: 1,
  answerLimit: 1,
});
const view = onlyView(catalog);
const unknown = new PendingNameError("k", Promise.resolve(), new Set());
const keys = Object.assign(new TestKeys(), { sign: () => new Uint8Array(64) });

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

function withOpt(options: string, { name = NAME, version = 0 } = {}): Uint8Array {
  const data = hex(options);
  const bytes = Buffer.concat([
    questionBytes("A", name),
    hex("00 0029 04d0 00"),
    Buffer.of(version, 0, 0, data.length >> 8, data.length & 255),
    data,
  ]);
  bytes.writeUInt16BE(1, 10);
  return bytes;
}

/** IXFR, with the serial that a secondary has. */
function changesSince(serial: number | undefined): Uint8Array {
  if (serial === undefined) return signedBy({}, questionBytes(251, "waymark")).bytes;
  const soa = Buffer.concat([hex("00 0006 0001 00000000 0016 00 00"), Buffer.alloc(20)]);
  soa.writeUInt32BE(serial, soa.length - 20);
  const bytes = Buffer.concat([questionBytes(251, "waymark"), soa]);
  bytes.writeUInt16BE(1, 8);
  return signedBy({}, bytes).bytes;
}

interface Asked {
  readonly bytes: Uint8Array;
  readonly transport?: DnsTransport;
  readonly select?: () => ViewSelection;
  readonly sender?: Partial<QuerySender>;
}

const throwing = (error: Error) => () => {
  throw error;
};
const QUESTIONS: Readonly<Record<string, Asked>> = {
  plain: { bytes: questionBytes("A", NAME) },
  limited: { bytes: questionBytes("A", NAME), select: () => onlyView(limited) },
  "too large for UDP": { bytes: questionBytes("A", "big.market.waymark") },
  absent: { bytes: questionBytes("A", "nope.waymark") },
  "absent for a subnet": {
    bytes: withOpt("0008 0007 0001 18 00 c00002", { name: "nope.waymark" }),
    select: () => ({ ...view, scopePrefix: 20, isBySubnet: true }),
  },
  "with a subnet of which all have one view": { bytes: withOpt("0008 0007 0001 18 00 c00002") },
  "with a client's cookie": { bytes: withOpt("000a 0008 2464c4abcf10c957") },
  "with a wrong option": { bytes: withOpt("000a 0003 2464c4") },
  "with keepalive": { bytes: withOpt("000b 0000"), transport: "tcp" },
  "with padding": { bytes: withOpt("000c 0000"), transport: "dot" },
  "without options over TLS": { bytes: withOpt(""), transport: "dot" },
  "of another version": { bytes: withOpt("", { version: 1 }) },
  "of another opcode": { bytes: hex("abcd 2800 0000 0000 0000 0000") },
  malformed: { bytes: questionBytes("A", NAME).subarray(0, 20) },
  "from nobody who may ask": { bytes: withOpt(""), select: () => ({ isRefused: true }) as const },
  "with a subnet, from nobody who may ask": { bytes: withOpt("0008 0007 0001 18 00 c00002"), select: () => ({ isRefused: true }) as const },
  "before the node is ready": { bytes: withOpt(""), select: throwing(new WaymarkError("not_ready", "later")) },
  "that is a fault of ours": { bytes: withOpt(""), select: throwing(new Error("broken")) },
  "that may wait": { bytes: withOpt(""), select: throwing(unknown), sender: { room: "all" } },
  "that may not wait": { bytes: withOpt(""), select: throwing(unknown), sender: { room: "nobody" } },
  "that may not wait over TCP": { bytes: withOpt(""), transport: "tcp", select: throwing(unknown), sender: { room: "nobody" } },
  "for signatures": { bytes: signedQuery(NAME, TYPE.A) },
  "for a signed denial": { bytes: signedQuery("nope.waymark", TYPE.A) },
  "for a signed denial by code": { bytes: signedQuery("nope.waymark", TYPE.A, { isCompactOk: true }) },
  "for the signed start of the zone": { bytes: signedQuery("waymark", TYPE.SOA) },
  "with a key": { bytes: signedBy({}, questionBytes("A", NAME)).bytes },
  "with an unknown key": { bytes: signedBy({ key: "x.example" }, questionBytes("A", NAME)).bytes },
  "for a zone": { bytes: signedBy({}, questionBytes(252, "waymark")).bytes, transport: "tcp", sender: { mayTransfer: true } },
  "for a zone where none is sent": { bytes: signedBy({}, questionBytes(252, "waymark")).bytes, transport: "tcp" },
  "for changes since then": { bytes: changesSince(3), transport: "tcp", sender: { mayTransfer: true } },
  "for changes, with what is newest": { bytes: changesSince(9), transport: "tcp", sender: { mayTransfer: true } },
  "for changes since no serial": { bytes: changesSince(undefined), transport: "tcp", sender: { mayTransfer: true } },
};

function newResponder(): DnsResponder {
  const signer = new ZoneSigner({ keys, now: () => ({ monoMs: 0, wallMs: NOW * 1000 }) });
  const key = { name: "k.example", algorithm: "hmac-sha256", secret: SECRET, viewIndex: 0 } as const;
  return new DnsResponder({
    settings: { ...TEST_DNS_SETTINGS, zoneKeys: () => signer.keys },
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 7,
    signer,
    wallMs: () => NOW * 1000,
    idleTimeoutMs: 10_000,
    rates: new ResponseRates({ perSecond: 100, maxNetworks: 100 }),
    transferKeys: { find: (name) => (name === key.name ? key : undefined), mayBegin: () => true },
  });
}

function answer(responder: DnsResponder, { bytes, transport = "udp", select = () => view, sender }: Asked) {
  const reply = responder.respond(bytes, transport, select, { address: "192.0.2.1", monoMs: 0, room: "all", ...sender });
  return { ...reply, bytes: Buffer.from(reply?.bytes ?? []).toString("hex") };
}

test.each(Object.keys(QUESTIONS))("a question %s is answered as the first of all, whatever was asked before it", (what) => {
  const asked = QUESTIONS[what];
  if (asked === undefined) throw new Error("no such question");
  const first = answer(newResponder(), asked);
  for (const [before, other] of Object.entries(QUESTIONS)) {
    const responder = newResponder();
    answer(responder, other);
    expect([before, answer(responder, asked)]).toEqual([before, first]);
  }
});
