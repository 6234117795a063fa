/** Several acceptors on one port: they share its connections, and nobody else joins by mistake. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { openAcceptor, type TlsAcceptor } from "../../src/grpc/server/acceptor.io.ts";
import type { PortSharing } from "../../src/lib/shared-port.io.ts";
import { until } from "../fakes/until.ts";

interface Door {
  readonly acceptor: TlsAcceptor;
  count: number;
}

async function openDoor(port: number, sharing?: PortSharing): Promise<Door> {
  const acceptor = await openAcceptor({
    host: "127.0.0.1",
    port,
    sharing,
    portFlag: "--grpc-port",
    protocols: ["h2"],
    maxConnections: 1_000,
    onConnection: () => (door.count += 1),
  });
  const door: Door = { acceptor, count: 0 };
  onTestFinished(() => {
    acceptor.close();
    for (const socket of acceptor.sockets) socket.destroy();
  });
  return door;
}

async function enter(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  await once(socket, "connect");
  return socket;
}

const refused = (port: number) => `address already in use: 127.0.0.1:${port}; pass --grpc-port with another port (0 selects a free port)`;

test("two acceptors share a port, and when one closes the other takes all", async () => {
  const first = await openDoor(0, "first");
  const { port } = first.acceptor;
  const second = await openDoor(port, "further");
  expect(second.acceptor.port).toBe(port);
  for (let entered = 0; first.count === 0 || second.count === 0; entered++) {
    expect(entered).toBeLessThan(200);
    await enter(port);
  }
  first.acceptor.close();
  const [before, others] = [second.count, first.count];
  await Promise.all(Array.from({ length: 20 }, () => enter(port)));
  await until("all are accepted", () => second.count === before + 20);
  expect(first.count).toBe(others);
});

test("a port that another program has is refused to the first thread and to a further one, as to one that shares nothing", async () => {
  const other = createServer();
  onTestFinished(() => void other.close());
  other.listen(0, "127.0.0.1");
  await once(other, "listening");
  const address = other.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  for (const sharing of [undefined, "first", "further"] as const) await expect(openDoor(port, sharing)).rejects.toThrow(refused(port));
});

test("a port that threads share is refused to another node, whether it shares its ports or not, until the last thread has closed", async () => {
  const first = await openDoor(0, "first");
  const { port } = first.acceptor;
  const second = await openDoor(port, "further");
  first.acceptor.close();
  for (const sharing of [undefined, "first"] as const) await expect(openDoor(port, sharing)).rejects.toThrow(refused(port));
  second.acceptor.close();
  const again = await openDoor(port, "first");
  expect(again.acceptor.port).toBe(port);
});

test("a first thread that finds the port taken leaves nothing open on it", async () => {
  const holder = await openDoor(0);
  const { port } = holder.acceptor;
  await expect(openDoor(port, "first")).rejects.toThrow(refused(port));
  holder.acceptor.close();
  const next = await openDoor(port);
  expect(next.acceptor.port).toBe(port);
});
