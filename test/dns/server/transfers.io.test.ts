/** Transfers beside other work of the process: in slices, a few at a time, and of one moment. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import packet from "dns-packet";
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { DNS_LIMITS, type DnsLimits } from "../../../src/dns/server/server.io.ts";
import { type TransferLimits, ZoneTransfers } from "../../../src/dns/transfer/transfers.io.ts";
import type { EndedTransfer } from "../../../src/dns/transfer/zone-messages.ts";
import { viewersOf } from "../../../src/dns/views/views.ts";
import { openLog } from "../../../src/lib/log.io.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import type { PolicySource } from "../../../src/policy/set/verdict.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { startTestGateway } from "../../fakes/dns-gateway.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { set } from "../../fakes/policies.ts";
import { at, draftAt, Registry } from "../../fakes/registry.ts";
import { complete, hmac, signedBy, u16, variables, wire } from "../../fakes/tsig.ts";
import { until } from "../../fakes/until.ts";
import { questionBytes } from "../asking.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const AXFR = 252;
const KEY = { name: "k", algorithm: "hmac-sha256", secret: Buffer.from("0123456789abcdef"), viewIndex: 0 } as const;

interface More {
  readonly policies?: PolicySource;
  readonly limits?: TransferLimits;
  readonly zones?: readonly string[];
  readonly aliasesOf?: (service: number) => readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
}

function open(
  serviceCount: number,
  { policies = { policy: NO_POLICY }, limits, aliasesOf = () => [], metadata = {}, zones = ["waymark"] }: More = {},
) {
  const r = new Registry();
  const put = (from: number, count: number, host: string): void => {
    const drafts = Array.from({ length: count }, (_, i) =>
      draftAt(
        { kind: KIND.SERVICE, namespace: "svc", name: `s${from + i}`, instanceId: "1" },
        { targets: [{ host, port: 80, protocol: "tcp" }], aliases: [...aliasesOf(from + i)], metadata },
      ),
    );
    for (let first = 0; first < drafts.length; first += 500) r.register("ann", drafts.slice(first, first + 500), at(0), { isStatic: true });
  };
  put(0, serviceCount, "10.0.0.1");
  const metrics = new Metrics();
  const ended: EndedTransfer[] = [];
  const transfers = new ZoneTransfers({
    reads: new CatalogReads(r.replica, NODE, { policies, onDenied: () => {} }),
    policies,
    clusterId: NODE.clusterId,
    zones,
    blocks: [],
    catalog: SETTINGS.catalog,
    viewers: viewersOf({ views: [], transferKeys: [{ tenant: "red", cluster: undefined, region: undefined, zone: undefined }] }, NODE),
    settings: { ...TEST_DNS_SETTINGS, zones },
    serialOf: (viewIndex) => 7 + viewIndex,
    limits,
    metrics,
    onEnd: (end) => void ended.push(end),
    log: openLog({ level: "silent", scopes: new Map(), format: "json" }).child("dns"),
  });
  const start = (keyName = "k", { viewIndex = 0, opt = new Uint8Array(), isPadded = false } = {}) => {
    const signing = {
      key: KEY,
      keyName,
      algorithm: KEY.algorithm,
      requestMac: Buffer.alloc(32),
      timeSigned: 0,
      error: 0,
      other: Buffer.alloc(0),
      isUnsigned: false,
    };
    const request = {
      id: 1,
      question: questionBytes(AXFR, "waymark").slice(12),
      opt,
      isPadded,
      zone: "waymark",
      signing,
      viewIndex,
    };
    return transfers.start(request, "127.0.0.1")[Symbol.asyncIterator]();
  };
  const count = (outcome: "cut" | "done" | "failed" | "refused") => metrics.counter("dns_transfers_total", { outcome }).value;
  const mayBegin = (keyName: string) => transfers.mayBegin({ keyName, zone: "waymark", viewIndex: 0, address: "127.0.0.1" });
  return { r, metrics, put, transfers, mayBegin, start, count, ended };
}

/** The records of the rest of a transfer: owner, type and address. */
async function rest(messages: AsyncIterator<Uint8Array>): Promise<readonly string[]> {
  const lines: string[] = [];
  for (let next = await messages.next(); next.done !== true; next = await messages.next())
    for (const record of packet.decode(Buffer.from(next.value)).answers ?? [])
      lines.push(`${record.name} ${record.type} ${record.type === "A" ? record.data : ""}`.trim());
  return lines;
}

test("thirty thousand services are copied and sent in slices, between which other work has its turn", {
  tags: ["night"],
  timeout: 60_000,
}, async () => {
  const { start, put } = open(30_000);
  let turns = 0;
  const transfer = { isDone: false };
  const others = (async () => {
    for (; !transfer.isDone; turns++) {
      // Changes go on meanwhile: the zone has one of them or not, as the others of its moment.
      if (turns === 5 || turns === 200) put(0, 30, `10.0.0.${2 + turns}`);
      await setImmediate();
    }
  })();
  const lines = await rest(start());
  transfer.isDone = true;
  await others;
  expect([lines[0], lines.at(-1)]).toEqual(["waymark SOA", "waymark SOA"]);
  expect(lines.filter((line) => /^s\d+\.svc\.waymark A /.test(line)).length).toBe(30_000);
  const changed = lines.filter((line) => /^s(?:1|2)?\d\.svc\.waymark A /.test(line)).map((line) => line.split(" ").at(-1));
  expect([changed.length, new Set(changed).size]).toEqual([30, 1]);
  // Four names of each are looked at, for fifteen types and more, and a slice has a thousand of these at most.
  expect(turns).toBeGreaterThan((30_000 * 4 * 15) / 1000);
});

test("names that are passed over count in a slice too", async () => {
  // All are names of the longer zone.
  const aliasesOf = (i: number) => Array.from({ length: 64 }, (_, k) => `a${k}.s${i}.svc`);
  const { start } = open(500, { aliasesOf, zones: ["waymark", "svc.waymark"] });
  let turns = 0;
  const transfer = { isDone: false };
  const others = (async () => {
    for (; !transfer.isDone; turns++) await setImmediate();
  })();
  expect((await rest(start())).length).toBeLessThan(10);
  transfer.isDone = true;
  await others;
  expect(turns).toBeGreaterThan((64 * 500) / 1000);
});

test("of a key two transfers run at a time, whatever others of it have ended", async () => {
  const { start, mayBegin } = open(2000);
  const [one, two] = [start(), start()];
  for (const each of [one, two]) await each.next();
  await one.return?.();
  const three = start();
  await three.next();
  expect(mayBegin("k")).toBe(false);
  await two.return?.();
  expect(mayBegin("k")).toBe(true);
  await three.return?.();
});

test("a transfer whose client does not read holds its place and makes nothing; two of a key and four of all run at a time", async () => {
  const { start, transfers, mayBegin, count, ended } = open(2000);
  const first = [start("k"), start("k"), start("x")];
  for (const each of first) expect((await each.next()).done).toBe(false);
  expect([mayBegin("k"), mayBegin("x")]).toEqual([false, true]);
  const fourth = start("x");
  expect([mayBegin("y"), count("refused")]).toEqual([false, 2]);
  expect((await rest(fourth)).length).toBeGreaterThan(8000);
  expect([mayBegin("y"), count("done")]).toEqual([true, 1]);
  // The connection has ended.
  for (const each of first) await each.return?.();
  expect([transfers.count, count("cut")]).toEqual([0, 3]);
  // Each is told with what was sent.
  expect(ended.map(({ keyName, outcome }) => `${keyName} ${outcome}`)).toEqual([
    "k refused",
    "y refused",
    "x done",
    "k cut",
    "k cut",
    "x cut",
  ]);
  for (const { zone, address, serial, viewIndex } of ended)
    expect([zone, address, serial, viewIndex]).toEqual(["waymark", "127.0.0.1", 7, 0]);
  for (const { outcome, recordCount, sizeBytes } of ended) {
    const least = { refused: 0, cut: 100, done: 8000, failed: 0 }[outcome];
    expect([recordCount >= least, sizeBytes >= 10 * least, recordCount === 0]).toEqual([true, true, outcome === "refused"]);
  }
});

test("a name of more targets than an answer is drawn from is sent in part, which is counted and told; one of as many is whole", async () => {
  for (const { instances, want } of [
    { instances: 64, want: { addresses: 4096, crowded: 0 } },
    // Each instance gives as many as the others. The other name is that of SRV.
    { instances: 65, want: { addresses: 65 * 63, crowded: 2 } },
  ]) {
    const { r, start, ended, metrics } = open(1);
    for (let i = 0; i < instances; i++) {
      const targets = Array.from({ length: 64 }, (_, t) => ({
        host: `10.1.${i}.${t}`,
        port: 80,
        protocol: "tcp",
        name: t === 0 ? "" : `p${t}`,
      }));
      const key = { kind: KIND.SERVICE, namespace: "svc", name: "w", instanceId: `${i}` };
      r.register("ann", [draftAt(key, { targets })], at(0), { isStatic: true });
    }
    const lines = await rest(start());
    expect(lines.filter((line) => line.startsWith("w.svc.waymark A ")).length).toBe(want.addresses);
    const [end] = ended;
    const counted = metrics.counter("dns_transfer_crowded_names_total", {}).value;
    expect([end?.crowdedNameCount, counted]).toEqual([want.crowded, want.crowded]);
  }
});

test("a client that reads nothing gets what fits into the buffers, and is cut after a while", async () => {
  // Loopback buffers hold up to 10 MB. TXT records make a large zone of few services.
  const metadata = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`k${i}`, "v".repeat(240)]));
  const { transfers, count } = open(500, { metadata });
  const limits = { ...DNS_LIMITS, idleTimeoutMs: 1000 };
  await using served = await startTestGateway(new FakeDnsCatalog(), { limits, transfers: { findKey: () => KEY, running: transfers } });
  const socket = connect({ port: served.gateway.tcpPort, host: "127.0.0.1" });
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.pause();
  const atSeconds = Math.floor(Date.now() / 1000);
  const { bytes } = signedBy({ key: KEY.name, atSeconds }, questionBytes(AXFR, "waymark"));
  socket.write(Buffer.concat([Buffer.of(0, bytes.length), bytes]));
  await until("the transfer runs", async () => transfers.count === 1);
  await until("it is cut", async () => count("cut") === 1);
  expect([transfers.count, count("done"), served.count("dns_dropped_total", { reason: "idle" })]).toEqual([0, 0, 1]);
  socket.destroy();
}, 60_000);

test("each message of a transfer has the id of the question, an OPT record if that had one, and a signature that covers the one before", async () => {
  const { start } = open(3000);
  const opt = Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0);
  const messages = start("k", { opt });
  let before = Buffer.alloc(32);
  let count = 0;
  for (let next = await messages.next(); next.done !== true; next = await messages.next(), count++) {
    const bytes = Buffer.from(next.value);
    const owner = Buffer.concat([wire("k"), u16(250), u16(255)]);
    const tsigAt = bytes.lastIndexOf(owner);
    const data = bytes.subarray(tsigAt + owner.length + 6 + wire(KEY.algorithm).length);
    const plain = Buffer.from(bytes.subarray(0, tsigAt));
    plain.writeUInt16BE(plain.readUInt16BE(10) - 1, 10);
    const signer = complete({ key: "k", atSeconds: data.readUIntBE(0, 6) });
    const covered = count === 0 ? variables(signer, 0, Buffer.alloc(0)) : data.subarray(0, 8);
    const want = hmac(signer, u16(32), before, plain, covered);
    before = Buffer.from(data.subarray(10, 42));
    expect([count, before.toString("hex")]).toEqual([count, want.toString("hex")]);
    expect([count, bytes.readUInt16BE(0), plain.readUInt16BE(10), plain.subarray(-opt.length)]).toEqual([count, 1, 1, opt]);
  }
  expect(count).toBeGreaterThan(5);
});

test("each message of a padded transfer has a multiple of 468 bytes, with its signature, and zeros as the only option", async () => {
  const { start } = open(800);
  const opt = Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0);
  const messages = start("k", { opt, isPadded: true });
  const names = new Set<string>();
  for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
    const bytes = Buffer.from(next.value);
    const { answers = [], additionals = [] } = packet.decode(bytes);
    for (const { name } of answers) names.add(name);
    const [first] = additionals;
    const options = first?.type === "OPT" ? first.options : [];
    expect([bytes.length % 468, options.map(({ code }) => code)]).toEqual([0, [12]]);
    const optAt = bytes.lastIndexOf(opt.subarray(0, 9));
    const padding = bytes.subarray(optAt + 15, optAt + 11 + bytes.readUInt16BE(optAt + 9));
    expect(padding.equals(Buffer.alloc(bytes.readUInt16BE(optAt + 13)))).toBe(true);
  }
  expect([...names].filter((name) => /^s\d+\.svc\.waymark$/.test(name)).length).toBe(800);
});

test("both SOA records of a transfer have the serial of the view of its key", async () => {
  const { start } = open(1);
  const serials: number[] = [];
  const messages = start("k", { viewIndex: 1 });
  for (let next = await messages.next(); next.done !== true; next = await messages.next())
    for (const record of packet.decode(Buffer.from(next.value)).answers ?? [])
      if (record.type === "SOA") serials.push(record.data.serial ?? 0);
  expect(serials).toEqual([8, 8]);
});

test("a policy that goes on changing while the zone is copied ends the transfer, and frees its place", async () => {
  let turn = 3;
  const restless = open(10, {
    policies: {
      get policy() {
        return new Policy(set([], { defaultAllow: true }), turn++);
      },
    },
  });
  await expect(rest(restless.start())).rejects.toThrow("policy changed");
  expect([restless.transfers.count, restless.mayBegin("k"), restless.count("failed")]).toEqual([0, true, 1]);
});

test("a transfer that takes too long is cut, and so is its connection", async () => {
  const { transfers, count } = open(5_000, { limits: { max: 1, maxPerKey: 1, maxMs: 0, maxEntries: 30_000 } });
  await using served = await startTestGateway(new FakeDnsCatalog(), { transfers: { findKey: () => KEY, running: transfers } });
  const socket = connect({ port: served.gateway.tcpPort, host: "127.0.0.1" });
  socket.on("error", () => {});
  await once(socket, "connect");
  let isClosed = false;
  socket.on("close", () => (isClosed = true)).resume();
  const { bytes } = signedBy({ key: KEY.name, atSeconds: Math.floor(Date.now() / 1000) }, questionBytes(AXFR, "waymark"));
  socket.write(Buffer.concat([Buffer.of(0, bytes.length), bytes]));
  await until("it is cut", async () => count("cut") === 1);
  expect([transfers.count, count("done")]).toEqual([0, 0]);
  await until("its connection is closed", () => isClosed);
  socket.destroy();
});

test("no transfer begins of more entries than may be copied", () => {
  for (const [entryCount, may] of [
    [10, true],
    [11, false],
  ] as const) {
    const { mayBegin, count } = open(entryCount, { limits: { max: 1, maxPerKey: 1, maxMs: 10_000, maxEntries: 10 } });
    expect([entryCount, mayBegin("k"), count("refused")]).toEqual([entryCount, may, may ? 0 : 1]);
  }
});

/** A gateway that sends two messages as the zone, the second one when `goOn` was called. */
async function slowGateway(changed: Partial<DnsLimits>) {
  const slow = Promise.withResolvers<void>();
  const running = {
    mayBegin: () => true,
    start: async function* () {
      yield Buffer.from("first");
      await slow.promise;
      yield Buffer.from("second");
    },
  };
  const transfers = { findKey: () => KEY, running: running as never };
  const served = await startTestGateway(new FakeDnsCatalog(), { limits: { ...DNS_LIMITS, ...changed }, transfers });
  const opened = async () => {
    const socket = connect({ port: served.gateway.tcpPort, host: "127.0.0.1" });
    await once(socket, "connect");
    return socket;
  };
  const begun = async () => {
    const socket = await opened();
    const { bytes } = signedBy({ key: KEY.name, atSeconds: Math.floor(Date.now() / 1000) }, questionBytes(AXFR, "waymark"));
    socket.write(Buffer.concat([Buffer.of(0, bytes.length), bytes]));
    const zone = { socket, got: "" };
    socket.on("data", (chunk: Buffer) => (zone.got += chunk.toString("latin1")));
    await until("the first message is there", () => zone.got.endsWith("first"));
    return zone;
  };
  return { ...served, opened, begun, goOn: () => slow.resolve() };
}

test("a client is not cut while it waits for a zone, however long the next message takes", async () => {
  await using served = await slowGateway({ idleTimeoutMs: 100 });
  const zone = await served.begun();
  // Two that came later, one after the other, were silent for too long.
  for (let i = 0; i < 2; i++) await once((await served.opened()).resume(), "close", { signal: AbortSignal.timeout(20_000) });
  served.goOn();
  await until("the second message is there", () => zone.got.endsWith("second"));
  expect(served.count("dns_dropped_total", { reason: "idle" })).toBe(2);
  // Then it is as quiet as any other.
  await once(zone.socket, "close", { signal: AbortSignal.timeout(20_000) });
  expect(served.count("dns_dropped_total", { reason: "idle" })).toBe(3);
});

test("however many others connect, they do not take the place of a client that is being sent a zone, nor at once when it has it", async () => {
  await using served = await slowGateway({ maxConnections: 2 });
  const dropped = () => served.count("dns_dropped_total", { reason: "overload" });
  const zone = await served.begun();
  const others: Socket[] = [];
  for (let i = 0; i < 4; i++) others.push((await served.opened()).resume());
  await until("they took the place of each other", () => dropped() === 3);
  served.goOn();
  await until("the second message is there", () => zone.got.endsWith("second"));
  others.push((await served.opened()).resume());
  await until("the one that was quiet went", () => others[3]?.closed === true);
  expect([dropped(), zone.socket.closed]).toEqual([4, false]);
  for (const socket of [...others, zone.socket]) socket.destroy();
});
