/** Several gateways on one port number: they share its questions over UDP and TCP, and nobody else joins by mistake. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { PortSharing } from "../../../src/lib/shared-port.io.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { startTestGateway, type TestGateway } from "../../fakes/dns-gateway.ts";
import { queryBytes } from "../../fakes/dns-text.ts";

const QUERY = queryBytes({ name: "web.market.waymark", type: "A" });
const FRAMED = Buffer.concat([Buffer.from([0, QUERY.length]), QUERY]);

async function openGateway(ports: { readonly udpPort: number; readonly tcpPort?: number }, sharing?: PortSharing): Promise<TestGateway> {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const world = await startTestGateway(catalog, { ...ports, sharing });
  onTestFinished(() => world.gateway.stop());
  return world;
}

const ASK = {
  /** From an address of its own. */
  async udp(port: number): Promise<void> {
    const socket = createSocket("udp4");
    socket.send(QUERY, port, "127.0.0.1");
    await once(socket, "message");
    socket.close();
  },
  /** Over a connection of its own. */
  async tcp(port: number): Promise<void> {
    const socket = connect(port, "127.0.0.1");
    socket.end(FRAMED);
    await once(socket, "data");
    socket.destroy();
  },
};

const TRANSPORTS = ["udp", "tcp"] as const;
const answered = (world: TestGateway, transport: "udp" | "tcp") =>
  world.count("dns_queries_total", { qtype: "A", rcode: "NOERROR", transport });

test("two gateways share both ports of a number, and when one stops the other answers all", async () => {
  const first = await openGateway({ udpPort: 0 }, "first");
  const { udpPort, tcpPort } = first.gateway;
  const second = await openGateway({ udpPort, tcpPort }, "further");
  expect([tcpPort, second.gateway.udpPort, second.gateway.tcpPort]).toEqual([udpPort, udpPort, udpPort]);
  for (const transport of TRANSPORTS) {
    for (let asked = 0; answered(first, transport) === 0 || answered(second, transport) === 0; asked++) {
      expect(asked).toBeLessThan(200);
      await ASK[transport](udpPort);
    }
  }
  await first.gateway.stop();
  for (const transport of TRANSPORTS) {
    const before = answered(second, transport);
    for (let n = 0; n < 20; n++) await ASK[transport](udpPort);
    expect(answered(second, transport)).toBe(before + 20);
  }
});

test("a first thread takes UDP and TCP ports of two numbers as well", async () => {
  const { gateway } = await openGateway({ udpPort: 0, tcpPort: 0 }, "first");
  const { udpPort, tcpPort } = gateway;
  const further = await openGateway({ udpPort, tcpPort }, "further");
  expect([further.gateway.udpPort, further.gateway.tcpPort]).toEqual([udpPort, tcpPort]);
  await ASK.udp(udpPort);
  await ASK.tcp(tcpPort);
});

test("a number of which another program has UDP or TCP is refused to the first thread and to a further one", async () => {
  const { udpPort, tcpPort } = (await openGateway({ udpPort: 0, tcpPort: 0 })).gateway;
  for (const sharing of [undefined, "first", "further"] as const) {
    await expect(openGateway({ udpPort }, sharing)).rejects.toThrow(
      `address already in use: dns udp 127.0.0.1:${udpPort}; pass --dns-port with another port (0 selects a free port)`,
    );
    await expect(openGateway({ udpPort: tcpPort }, sharing)).rejects.toThrow(
      `address already in use: dns tcp 127.0.0.1:${tcpPort}; pass --dns-port with another port (0 selects a free port)`,
    );
  }
});

test("a number that threads share is refused to another node, whether it shares its ports or not, until the last thread has stopped", async () => {
  const first = await openGateway({ udpPort: 0 }, "first");
  const { udpPort, tcpPort } = first.gateway;
  const second = await openGateway({ udpPort, tcpPort }, "further");
  await first.gateway.stop();
  for (const sharing of [undefined, "first"] as const)
    await expect(openGateway({ udpPort }, sharing)).rejects.toThrow(`address already in use: dns udp 127.0.0.1:${udpPort}`);
  await second.gateway.stop();
  const again = await openGateway({ udpPort }, "first");
  expect(again.gateway.tcpPort).toBe(udpPort);
});
