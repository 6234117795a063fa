/** The listeners of several threads on the same ports, each over parts of its own. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:http2";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { openLog } from "../../src/lib/log.io.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { NodeComponents, StopDeadline } from "../../src/node/components.io.ts";
import { DnsPresence } from "../../src/node/dns/presence.ts";
import { dnsCheck, endpointsOf, type ListenersOptions, type NodeListeners, openListeners } from "../../src/node/listeners.io.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { openScraper } from "../../src/server/metrics.io.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { queryBytes } from "../fakes/dns-text.ts";
import { stubServices } from "../fakes/stub-service.ts";

const LOG = openLog({ level: "silent", scopes: new Map(), format: "json" });

/** Listeners as one thread has them. */
interface Thread {
  readonly listeners: NodeListeners;
  readonly metrics: Metrics;
  stop(): Promise<void>;
}

let inside: DiscoveryInside;
let threads: Thread[];

beforeEach(async () => {
  inside = await startDiscovery();
  threads = [];
});
afterEach(async () => {
  await Promise.all(threads.map((thread) => thread.stop()));
  await inside.stop();
});

async function openThread(shared: ListenersOptions["shared"], changed: Partial<ListenersOptions["settings"]["dns"]> = {}): Promise<Thread> {
  const metrics = new Metrics();
  const { core, settings } = inside;
  const { listen, dns } = settings;
  const { serverInfo } = inside.service.handlers;
  const parts = new NodeComponents(LOG);
  const name = `thread ${threads.length}`;
  const options: ListenersOptions = {
    ...core,
    settings: {
      ...settings,
      listen: { ...listen, grpcPort: 0, httpPort: 0 },
      dns: { ...dns, udpPort: 0, tcpPort: undefined, ...changed },
    },
    log: LOG,
    services: stubServices((desc) => (desc === DiscoveryService && serverInfo !== undefined ? { serverInfo } : {})),
    idPrefix: name.replace(" ", "-"),
    metrics,
    zoneSerials: undefined,
    identities: { identify: () => anonymousCaller("local", "127.0.0.1", ["mesh.operate"]), follow: () => undefined },
    checkCaughtUp: () => undefined,
    followServing: () => undefined,
    dnsPresence: new DnsPresence(true),
    sources: {
      readiness: () => ({ isDraining: false, checks: [{ name, ok: true, detail: "" }] }),
      scrape: openScraper(metrics),
      persistence: () => undefined,
    },
    now: () => inside.now(),
    random: () => 0.5,
    shared,
  };
  const stop = () => parts.stop(new StopDeadline(1000));
  try {
    const listeners = await openListeners(options, parts);
    await parts.start();
    const thread = { listeners, metrics, stop };
    threads.push(thread);
    return thread;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Asks until both threads have answered, which the kernel decides by the address of the asker. */
async function untilBoth(ask: () => Promise<unknown>, of: (thread: Thread) => number): Promise<void> {
  for (let asked = 0; threads.some((thread) => of(thread) === 0); asked++) {
    expect(asked).toBeLessThan(200);
    await ask();
  }
}

async function callGrpc(port: number): Promise<void> {
  const session = connect(`http://127.0.0.1:${port}`);
  const call = session.request({
    ":method": "POST",
    ":path": "/waymark.discovery.v1.DiscoveryService/ServerInfo",
    "content-type": "application/grpc",
    te: "trailers",
  });
  call.end(Buffer.alloc(5));
  call.resume();
  const [trailers] = (await once(call, "trailers")) as [Record<string, string>];
  expect(trailers["grpc-status"]).toBe("0");
  session.close();
}

async function askDns(port: number): Promise<void> {
  const socket = createSocket("udp4");
  socket.send(queryBytes({ name: "web.market.waymark", type: "A" }), port, "127.0.0.1");
  await once(socket, "message");
  socket.close();
}

const calls = ({ metrics }: Thread) =>
  metrics.histogram("rpc_latency_ms", { service: DiscoveryService.typeName, method: "ServerInfo", transport: "grpc" }).count;

const portsOf = ({ listeners }: Thread) => {
  const { calls: at, dns } = endpointsOf(listeners);
  return { calls: at.ports, dns: dns && { udp: dns.udp, tcp: dns.tcp } };
};

test("a further thread shares every port of the first, each thread answers of its own, and one goes on without the other", async () => {
  const first = await openThread({ sharing: "first" });
  const ports = portsOf(first);
  const second = await openThread({ sharing: "further", ports });
  expect(portsOf(second)).toEqual(ports);
  await untilBoth(() => callGrpc(ports.calls.grpc), calls);
  const seen = new Set<string>();
  for (let asked = 0; seen.size < 2; asked++) {
    expect(asked).toBeLessThan(200);
    const answer = await fetch(`http://127.0.0.1:${ports.calls.http}/readyz`, { headers: { connection: "close" } });
    seen.add(await answer.text());
  }
  expect([...seen].some((text) => text.includes("thread 0")) && [...seen].some((text) => text.includes("thread 1"))).toBe(true);
  const udp = ports.dns?.udp ?? 0;
  await untilBoth(
    () => askDns(udp),
    ({ metrics }) => metrics.counter("dns_queries_total", { qtype: "A", rcode: "NXDOMAIN", transport: "udp" }).value,
  );
  await first.stop();
  for (let n = 0; n < 10; n++) {
    await callGrpc(ports.calls.grpc);
    await askDns(udp);
  }
  expect(second.listeners.grpc.acceptor.port).toBe(ports.calls.grpc);
});

test("the ports of threads are refused to the first thread of another node, and taken again by the first thread after the last", async () => {
  const first = await openThread({ sharing: "first" });
  const ports = portsOf(first);
  await openThread({ sharing: "further", ports });
  await first.stop();
  await expect(openThread({ sharing: "first", ports })).rejects.toThrow(
    `address already in use: 127.0.0.1:${ports.calls.grpc}; pass --grpc-port`,
  );
  await expect(openThread({ sharing: "first", ports: { ...ports, calls: { ...ports.calls, grpc: 0 } } })).rejects.toThrow(
    `address already in use: 127.0.0.1:${ports.calls.http}; pass --http-port`,
  );
  await threads[1]?.stop();
  const again = await openThread({ sharing: "first", ports });
  expect(portsOf(again)).toEqual(ports);
});

test("without DNS no thread opens it", async () => {
  const first = await openThread({ sharing: "first" }, { enabled: false });
  const second = await openThread({ sharing: "further", ports: portsOf(first) }, { enabled: false });
  expect([first.listeners.dns, second.listeners.dns, portsOf(second).dns]).toEqual([undefined, undefined, undefined]);
});

test.each([
  { changed: {}, status: 200 },
  { changed: { https: false }, status: 404 },
  { changed: { enabled: false }, status: 404 },
])("a DNS query over HTTP is answered with status $status when the settings of DNS are $changed", async ({ changed, status }) => {
  const { listeners } = await openThread({ sharing: "first" }, changed);
  const query = Buffer.from(queryBytes({ name: "web.market.waymark", type: "A" })).toString("base64url");
  const url = `http://127.0.0.1:${endpointsOf(listeners).calls.ports.http}/dns-query?dns=${query}`;
  expect((await fetch(url, { headers: { connection: "close" } })).status).toBe(status);
});

test("the DNS line of /readyz says that queries get SERVFAIL until the process is ready", () => {
  const at = { host: "127.0.0.1", udp: 53 } as const;
  const { settings } = inside;
  const unready = () => {
    throw new WaymarkError("not_ready", "no data yet");
  };
  const resolver = { ...settings, node: { ...settings.node, mode: "resolver" } } as const;
  const details = [
    dnsCheck(settings, at as never, () => undefined, "; 2 of 2 processes answer"),
    dnsCheck(settings, at as never, unready),
    dnsCheck(resolver, at as never, unready),
  ].map(({ detail }) => detail);
  expect(details).toEqual([
    "answers for waymark on 127.0.0.1:53; 2 of 2 processes answer",
    "listens on 127.0.0.1:53; answers SERVFAIL until the node is ready",
    "listens on 127.0.0.1:53; answers SERVFAIL until the resolver is ready",
  ]);
});
