/** A gateway on all addresses of the machine answers from the one that was asked. */
import { createSocket, type RemoteInfo } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { expect, onTestFinished, test } from "vitest";
import type { DnsGatewayOptions } from "../../../src/dns/server/server.io.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { startTestGateway, type TestGateway } from "../../fakes/dns-gateway.ts";
import { queryBytes } from "../../fakes/dns-text.ts";

const QUERY = queryBytes({ name: "web.market.waymark", type: "A" });
const IPV4 = ["127.0.0.1", "127.0.0.2"];

async function open(options: Partial<DnsGatewayOptions> = {}): Promise<TestGateway> {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const world = await startTestGateway(catalog, { host: "0.0.0.0", machine: { addresses: () => IPV4 }, ...options });
  onTestFinished(() => world.gateway.stop());
  return world;
}

/** The address that the answer comes from, at a client on 127.0.0.1. */
async function answererOf(address: string, { gateway }: TestGateway): Promise<string> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  socket.send(QUERY, gateway.udpPort, address);
  const [, from] = (await once(socket, "message")) as [Buffer, RemoteInfo];
  socket.close();
  return from.address;
}

/** Asks until answers come from there. */
async function untilAnswers(address: string, from: string, world: TestGateway): Promise<void> {
  while ((await answererOf(address, world)) !== from);
}

/** A list of addresses, and how often it was looked at. */
function counted(list: () => readonly string[]): { readonly addresses: () => readonly string[]; readonly looks: () => number } {
  let count = 0;
  const addresses = () => {
    count += 1;
    return list();
  };
  return { addresses, looks: () => count };
}

test.each(["0.0.0.0", "::"])("bound to %s, each address answers itself", async (host) => {
  const world = await open({ host });
  for (const address of IPV4) expect(await answererOf(address, world)).toBe(address);
  expect(world.faults).toEqual([]);
});

test("what the system lists is what the machine has", async () => {
  const world = await open({ machine: undefined });
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const addresses = all.filter(({ family }) => family === "IPv4").map(({ address }) => address);
  const answerers: string[] = [];
  for (const address of addresses) answerers.push(await answererOf(address, world));
  expect(answerers).toEqual(addresses);
});

test("an address that comes is answered from, and one that goes is let go", async () => {
  let addresses = IPV4;
  const world = await open({ machine: { addresses: () => addresses, lookMs: 1 } });
  addresses = ["127.0.0.1", "127.0.0.3"];
  await untilAnswers("127.0.0.3", "127.0.0.3", world);
  // It is asked at the socket of all addresses again, which answers as the system has it.
  await untilAnswers("127.0.0.2", "127.0.0.1", world);
  expect(world.faults).toEqual([]);
});

test("gateways that share the port answer alike, and the one that is left goes on", async () => {
  const first = await open({ sharing: "first" });
  const { udpPort, tcpPort } = first.gateway;
  const second = await open({ udpPort, tcpPort, sharing: "further" });
  const count = (world: TestGateway) => world.count("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport: "udp" });
  for (let asked = 0; count(first) === 0 || count(second) === 0; asked++) {
    expect(asked).toBeLessThan(200);
    expect(await answererOf("127.0.0.2", first)).toBe("127.0.0.2");
  }
  await first.gateway.stop();
  for (let n = 0; n < 10; n++) expect(await answererOf("127.0.0.2", second)).toBe("127.0.0.2");
});

test.each(["0.0.0.0", "127.0.0.2"])("a second node on the port is refused when it is bound to %s", async (host) => {
  const { gateway } = await open();
  await expect(open({ host, udpPort: gateway.udpPort })).rejects.toThrow(
    `address already in use: dns udp ${host}:${gateway.udpPort}; pass --dns-port with another port`,
  );
});

test("an address that cannot be bound is said once, and the others answer", async () => {
  const { addresses, looks } = counted(() => ["192.0.2.250", ...IPV4]);
  const world = await open({ machine: { addresses, lookMs: 1 } });
  while (looks() < 5) expect(await answererOf("127.0.0.2", world)).toBe("127.0.0.2");
  expect(world.faults).toEqual([expect.objectContaining({ code: "EADDRNOTAVAIL" })]);
});

test("a system that does not list its addresses leaves the one socket, and that is said once", async () => {
  const { addresses, looks } = counted(() => {
    throw new Error("no netlink");
  });
  const world = await open({ machine: { addresses, lookMs: 1 } });
  while (looks() < 5) expect(await answererOf("127.0.0.2", world)).toBe("127.0.0.1");
  expect(world.faults).toEqual([new Error("no netlink")]);
});

test("64 addresses have sockets of their own, and that there are more is said once", async () => {
  const { addresses, looks } = counted(() => Array.from({ length: 66 }, (_, i) => `127.0.1.${i + 1}`));
  const world = await open({ machine: { addresses, lookMs: 1 } });
  while (looks() < 5) expect(await answererOf("127.0.1.64", world)).toBe("127.0.1.64");
  expect(await answererOf("127.0.1.65", world)).toBe("127.0.0.1");
  expect(world.faults).toEqual([
    new Error("the machine has 66 addresses, but the DNS gateway answers only from the first 64: set dns.host to one address"),
  ]);
});
