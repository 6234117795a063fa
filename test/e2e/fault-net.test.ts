/** The faults themselves: what passes, how late, what does not, and that both ends of a connection hear of its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { FaultNet, FaultyUdp } from "../fakes/fault-net.ts";
import { until } from "../fakes/until.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A gate to a server that says back what it hears; the test is node `a`, the server is `b`. */
async function world(): Promise<{ readonly net: FaultNet; readonly port: number; readonly sockets: Socket[] }> {
  const net = new FaultNet("fault-net");
  cleanups.push(() => net[Symbol.asyncDispose]());
  net.isIn("a", process.pid);
  const port = await net.gate("b", "127.0.1.1");
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.pipe(socket);
  }).listen(port, "127.0.1.1");
  await once(server, "listening");
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { net, port, sockets };
}

interface Caller {
  readonly socket: Socket;
  said: string;
  isClosed: boolean;
}

function call(port: number): Caller {
  const socket = connect(port, "127.0.0.1");
  const caller: Caller = { socket, said: "", isClosed: false };
  socket.on("data", (bytes: Buffer) => (caller.said += bytes.toString()));
  socket.on("error", () => {});
  socket.on("close", () => (caller.isClosed = true));
  cleanups.push(() => socket.destroy());
  return caller;
}

test("in fair weather everything passes, in order, and an end is an end on both sides", async () => {
  const { net, port, sockets } = await world();
  const caller = call(port);
  for (let i = 0; i < 200; i++) caller.socket.write(`${i},`);
  caller.socket.end();
  await until("all came back", () => caller.isClosed);
  expect(caller.said).toBe(Array.from({ length: 200 }, (_, i) => `${i},`).join(""));
  expect([...net.seen]).toEqual([["a>b", 1]]);
  await until("the other side too", () => sockets.every((socket) => socket.destroyed));
});

test("delay and loss make it late, never another", { tags: ["night"] }, async () => {
  const { net, port } = await world();
  net.setAll(["a", "b"], { delayMs: 30, jitterMs: 30, lossRatio: 0.5 });
  const caller = call(port);
  const began = performance.now();
  for (let i = 0; i < 10; i++) {
    caller.socket.write(`${i},`);
    await until("it came back", () => caller.said.endsWith(`${i},`));
  }
  expect(performance.now() - began).toBeGreaterThan(10 * 60);
  expect(caller.said).toBe(Array.from({ length: 10 }, (_, i) => `${i},`).join(""));
});

test("a cut is silence: no word, no end, not even a connection; healed, what was said arrives", async () => {
  const { net, port, sockets } = await world();
  const [open, ended] = [call(port), call(port)];
  open.socket.write("1");
  ended.socket.write("1");
  await until("both talk", () => open.said === "1" && ended.said === "1");
  net.partition(["a"], ["b"]);
  open.socket.write("2");
  ended.socket.destroy();
  const late = call(port);
  late.socket.write("3");
  await once(late.socket, "connect");
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect([open.said, late.said, sockets.map(({ destroyed }) => destroyed)]).toEqual(["1", "", [false, false]]);
  net.heal();
  await until("healed", () => open.said === "12" && late.said === "3");
  await until("the end is told", () => sockets.filter(({ destroyed }) => destroyed).length === 1);
});

test("one way may be cut alone", async () => {
  const { net, port, sockets } = await world();
  const caller = call(port);
  caller.socket.write("1");
  await until("both talk", () => caller.said === "1");
  net.cut("b", "a");
  caller.socket.write("2");
  await until("heard there", () => sockets[0]?.bytesRead === 2);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(caller.said).toBe("1");
  net.heal();
  await until("told here", () => caller.said === "12");
});

test("nobody behind the gate is a closed connection; who does not read stops who sends", async () => {
  const { net, port, sockets } = await world();
  const lonely = call(await net.gate("c", "127.0.1.1"));
  lonely.socket.write("x");
  await until("refused", () => lonely.isClosed);
  const caller = call(port);
  caller.socket.write("1");
  await until("it talks", () => caller.said === "1");
  const [deaf] = sockets;
  deaf?.pause();
  deaf?.unpipe();
  for (let i = 0; i < 64; i++) caller.socket.write(Buffer.alloc(1024 * 1024, 120));
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(caller.socket.writableLength).toBeGreaterThan(16 * 1024 * 1024);
  deaf?.pipe(deaf);
  await until("all of it", () => caller.said.length === 64 * 1024 * 1024 + 1);
});

test("other processes are told apart by what they hold", async () => {
  const { net, port } = await world();
  const talk = (): ChildProcess => {
    const code = `const s=require("net").connect(${port},"127.0.0.1");s.write("x");s.on("data",()=>{});setTimeout(()=>{},60000)`;
    const child = spawn(process.execPath, ["-e", code], { stdio: "ignore" });
    cleanups.push(() => child.kill("SIGKILL"));
    return child;
  };
  net.isIn("c", talk().pid ?? 0);
  talk();
  await until("both are here", () => net.seen.size === 2);
  expect(new Set(net.seen.keys())).toEqual(new Set(["c>b", "outside>b"]));
  expect(net.strangers).toEqual([expect.stringMatching(/^to b: \d+ .*node -e const s=require/)]);
});

test("who speaks is told by both addresses, as the kernel gives one port to connections with different targets", async () => {
  const { net, port } = await world();
  // In the kernel's table the row of one target is before or after that of another by a hash of the address: some are before.
  const hosts = Array.from({ length: 12 }, (_, i) => `127.0.2.${i + 1}`);
  for (const host of hosts) {
    const server = createServer().listen(port, host);
    await once(server, "listening");
    cleanups.push(() => server.close());
  }
  const code = `const {connect}=require("net");const all=${JSON.stringify(hosts)}.map((host)=>connect(
    {host,port:${port},localAddress:"127.0.0.1"},()=>all.every((s)=>!s.connecting)&&console.log(all.map((s)=>s.localPort).join())))`;
  const other = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  cleanups.push(() => other.kill("SIGKILL"));
  const [ports] = (await once(other.stdout, "data")) as [Buffer];
  const taken = new Set(ports.toString().trim().split(","));
  for (const localPort of taken) {
    const socket = connect({ host: "127.0.0.1", port, localAddress: "127.0.0.1", localPort: Number(localPort) });
    cleanups.push(() => socket.destroy());
    await once(socket, "connect");
  }
  await until("all are here", () => [...net.seen.values()].reduce((sum, count) => sum + count, 0) === taken.size);
  expect([...net.seen]).toEqual([["a>b", taken.size]]);
});

test("UDP packets are late or lost, each by itself", async () => {
  const net = new FaultNet("udp");
  const echo = createSocket("udp4");
  echo.on("message", (bytes, { address, port }) => echo.send(bytes, port, address));
  echo.bind(0, "127.0.1.1");
  await once(echo, "listening");
  const target = { host: "127.0.1.1", port: echo.address().port };
  await using way = await FaultyUdp.open(net, target, { delayMs: 5, jitterMs: 10, lossRatio: 0.3 });
  const asker = createSocket("udp4");
  const heard = new Set<string>();
  asker.on("message", (bytes) => heard.add(bytes.toString()));
  for (let i = 0; i < 200; i++) asker.send(String(i), way.port, "127.0.0.1");
  await until("each came back or was lost", () => heard.size + way.lostCount === 200);
  // 0.7² of 200 is 98, with a standard deviation of 7.
  expect(heard.size).toBeGreaterThan(60);
  expect(heard.size).toBeLessThan(140);
  asker.close();
  echo.close();
});
