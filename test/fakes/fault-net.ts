/**
 * Faults between real processes, in user space: every node is reached by way of a gate of its own, which knows from whom a
 * connection comes and delays, stalls, or cuts what that pair says. TCP and UDP.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { Rng } from "../../src/lib/rng.ts";

/** What it is like on the way from one node to another. */
export interface Weather {
  readonly delayMs: number;
  /** Up to this much more, evenly. */
  readonly jitterMs: number;
  /** Share of chunks (TCP) held back for a retransmission, or of packets (UDP) lost. */
  readonly lossRatio: number;
}

const FAIR: Weather = { delayMs: 0, jitterMs: 0, lossRatio: 0 };

/** What TCP needs at least to notice a lost segment and send it again (RFC 6298 §2.4 as Linux has it). */
const RETRANSMIT_MS = 200;
/** More is left in the sender's socket. */
const MAX_HELD_BYTES = 4 * 1024 * 1024;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export class FaultNet implements AsyncDisposable {
  readonly #rng: Rng;
  readonly #weather = new Map<string, Weather>();
  /** `from>to` of pairs between which nothing passes, and nobody is told. */
  readonly #cuts = new Set<string>();
  readonly #gates: Server[] = [];
  readonly #pipes = new Set<Pipe>();
  /** Name to process id. */
  readonly #pids = new Map<string, number>();
  /** Connections by who asked whom, as far as could be told. */
  readonly seen = new Map<string, number>();
  /** What processes that are none of the nodes were when they connected: whom to, and their command line. */
  readonly strangers: string[] = [];

  constructor(seed: string | number) {
    this.#rng = new Rng(seed);
  }

  /** The port of 127.0.0.1 that leads to the same port of `targetHost`: another address of the loopback, for a node that advertises 127.0.0.1. */
  async gate(name: string, targetHost: string): Promise<number> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(name, socket, { host: targetHost, port }));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    this.#gates.push(server);
    return port;
  }

  /** Who runs in a process; connections of others come from `outside`. To be called again when it is started again. */
  isIn(name: string, pid: number): void {
    this.#pids.set(name, pid);
  }

  /** What it is like from now on between all of them, both ways; what is on its way already comes when it was to. */
  setAll(names: readonly string[], weather: Partial<Weather>): void {
    for (const from of names) for (const to of names) if (from !== to) this.#weather.set(`${from}>${to}`, { ...FAIR, ...weather });
  }

  /** Lets nothing pass from one to the other; for connections there already, too. */
  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
  }

  /** Cuts every pair of different sides, both ways. */
  partition(...sides: readonly (readonly string[])[]): void {
    for (const side of sides)
      for (const other of sides) if (side !== other) for (const from of side) for (const to of other) this.cut(from, to);
  }

  /** Everything passes again, first what was held back. */
  heal(): void {
    this.#cuts.clear();
    for (const pipe of this.#pipes) pipe.pump();
  }

  isCut(from: string, to: string): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  weather(from: string, to: string): Weather {
    return this.#weather.get(`${from}>${to}`) ?? FAIR;
  }

  /** How long a chunk takes: one that is lost comes all the same, later. */
  delayOf({ delayMs, jitterMs, lossRatio }: Weather): number {
    const isLost = lossRatio > 0 && this.#rng.next() < lossRatio;
    return delayMs + jitterMs * this.#rng.next() + (isLost ? RETRANSMIT_MS : 0);
  }

  isLost({ lossRatio }: Weather): boolean {
    return lossRatio > 0 && this.#rng.next() < lossRatio;
  }

  #accept(to: string, near: Socket, target: Endpoint): void {
    const from = this.#sourceOf(to, near);
    if (from === undefined) {
      near.on("error", () => {}).destroy();
      return;
    }
    const pair = `${from}>${to}`;
    this.seen.set(pair, (this.seen.get(pair) ?? 0) + 1);
    const pipes: Pipe[] = [];
    const add = (source: Socket, sink: () => Socket, [speaker, hearer]: readonly [string, string]) => {
      const pipe = new Pipe({
        source,
        sink,
        delayMs: () => this.delayOf(this.weather(speaker, hearer)),
        isCut: () => this.isCut(speaker, hearer),
        onDone: () => this.#pipes.delete(pipe),
      });
      pipes.push(pipe);
      this.#pipes.add(pipe);
    };
    // The other half is there when the first word arrives: across a cut not even the connection is noticed.
    let far: Socket | undefined;
    const reach = (): Socket => {
      if (far !== undefined) return far;
      far = connect({ ...target, allowHalfOpen: true, noDelay: true });
      add(far, () => near, [to, from]);
      return far;
    };
    add(near, reach, [from, to]);
  }

  /** Whose connection it is; undefined when it is over already. */
  #sourceOf(to: string, socket: Socket): string | undefined {
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    const [far, near] = [
      { host: remoteAddress, port: remotePort },
      { host: localAddress, port: localPort },
    ];
    // The kernel's table is no snapshot: a row can be missed while others come and go.
    for (let tries = 0; tries < 5; tries++) {
      const inode = inodeOf(far, near);
      if (inode === undefined) continue;
      for (const [name, pid] of this.#pids) if (holdsSocket(pid, inode)) return name;
      // A process that is being killed has given up its sockets before the kernel closes them: then nobody holds this one.
      const pid = inode !== "0" && tries > 0 ? holderOf(inode) : undefined;
      if (pid !== undefined) {
        this.strangers.push(`to ${to}: ${pid} ${commandOf(pid)}`);
        return "outside";
      }
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pipe of this.#pipes) pipe.destroy();
    await Promise.all(this.#gates.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/**
 * Inode of the other end of a connection of this machine (proc(5), `net/tcp`); "0" when no process has it any more.
 * Both addresses count: the kernel gives one port to several connections, when each goes to another address.
 */
function inodeOf(far: Endpoint, near: Endpoint): string | undefined {
  const [local, remote] = [rowAddressOf(far), rowAddressOf(near)];
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n")) {
    const columns = line.trim().split(/\s+/);
    if (columns[1] === local && columns[2] === remote) return columns[9];
  }
  return undefined;
}

/** An IPv4 address as the table has it: the bytes of the host as a number of this machine, which is little-endian, then the port. */
function rowAddressOf({ host, port }: Endpoint): string {
  const bytes = host.split(".").map((byte) => Number(byte).toString(16).padStart(2, "0"));
  return `${bytes.toReversed().join("")}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}

function holdsSocket(pid: number, inode: string): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((fd) => isSocket(`${folder}/${fd}`, inode));
  } catch {
    return false;
  }
}

/** A process of this machine that holds it, so far as this one may look. */
function holderOf(inode: string): number | undefined {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.find((pid) => holdsSocket(pid, inode));
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 300);
  } catch {
    return "(gone)";
  }
}

function isSocket(path: string, inode: string): boolean {
  try {
    return readlinkSync(path) === `socket:[${inode}]`;
  } catch {
    return false;
  }
}

interface PipeParts {
  readonly source: Socket;
  /** The first use may open it. */
  readonly sink: () => Socket;
  readonly delayMs: () => number;
  readonly isCut: () => boolean;
  readonly onDone: () => void;
}

interface Held {
  readonly what: Buffer | "end" | "gone";
  readonly dueMonoMs: number;
}

/** One direction of one connection: what came, and when each part of it may go on; order is kept, as TCP does. */
class Pipe {
  readonly #parts: PipeParts;
  readonly #held: Held[] = [];
  #heldBytes = 0;
  #lastDueMonoMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #isWaiting = false;

  constructor(parts: PipeParts) {
    this.#parts = parts;
    const { source } = parts;
    source.on("data", (bytes: Buffer) => this.#take(bytes));
    source.on("end", () => this.#take("end"));
    source.on("error", () => {}); // "close" follows.
    source.on("close", () => this.#take("gone"));
  }

  #take(what: Held["what"]): void {
    this.#lastDueMonoMs = Math.max(this.#lastDueMonoMs, performance.now() + this.#parts.delayMs());
    this.#held.push({ what, dueMonoMs: this.#lastDueMonoMs });
    if (typeof what !== "string") this.#heldBytes += what.length;
    if (this.#heldBytes > MAX_HELD_BYTES) this.#parts.source.pause();
    this.pump();
  }

  /** Lets go on what is due. */
  pump(): void {
    clearTimeout(this.#timer);
    const { source, isCut } = this.#parts;
    while (!isCut() && !this.#isWaiting) {
      const [first] = this.#held;
      if (first === undefined) return;
      const leftMs = first.dueMonoMs - performance.now();
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(leftMs));
        return;
      }
      this.#held.shift();
      this.#pass(first.what);
      if (source.isPaused() && this.#heldBytes < MAX_HELD_BYTES / 2) source.resume();
    }
  }

  #pass(what: Held["what"]): void {
    const sink = this.#parts.sink();
    if (what === "gone") {
      // What was written before goes out first, as behind a real FIN; a reset is an end like any other here.
      sink.destroySoon();
      this.#parts.onDone();
    } else if (what === "end") sink.end();
    else {
      this.#heldBytes -= what.length;
      if (sink.destroyed || sink.write(what)) return;
      // Who does not read (it may be stopped) keeps others from sending, not us from running.
      this.#isWaiting = true;
      const go = () => {
        sink.off("drain", go).off("close", go);
        this.#isWaiting = false;
        this.pump();
      };
      sink.on("drain", go).on("close", go);
    }
  }

  destroy(): void {
    clearTimeout(this.#timer);
    this.#parts.source.destroy();
    this.#parts.onDone();
  }
}

type UdpLoss = (packet: number) => boolean;

/** A lossy, slow way to a UDP port; each asker keeps a socket of its own towards the target. */
export class FaultyUdp implements AsyncDisposable {
  readonly #front: UdpSocket;
  readonly #backs = new Map<string, UdpSocket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #net: FaultNet;
  readonly #target: Endpoint;
  readonly #weather: Weather;
  readonly #isLost: UdpLoss | undefined;
  /** Packets of both ways that did not arrive. */
  lostCount = 0;
  #packetCount = 0;

  private constructor(
    net: FaultNet,
    front: UdpSocket,
    to: { readonly target: Endpoint; readonly weather: Weather; readonly isLost: UdpLoss | undefined },
  ) {
    this.#net = net;
    this.#front = front;
    this.#target = to.target;
    this.#weather = to.weather;
    this.#isLost = to.isLost;
    front.on("message", (bytes, { address, port }) => this.#ask(bytes, { host: address, port }));
  }

  /** `isLost` decides in place of the weather's ratio, by the packet's number from 0 in both ways together. */
  static async open(net: FaultNet, target: Endpoint, weather: Partial<Weather>, isLost?: UdpLoss): Promise<FaultyUdp> {
    const front = createSocket("udp4");
    front.bind(0, "127.0.0.1");
    await once(front, "listening");
    return new FaultyUdp(net, front, { target, weather: { ...FAIR, ...weather }, isLost });
  }

  get port(): number {
    return this.#front.address().port;
  }

  #ask(bytes: Buffer, asker: Endpoint): void {
    const name = `${asker.host}:${asker.port}`;
    let back = this.#backs.get(name);
    if (back === undefined) {
      back = createSocket("udp4");
      this.#backs.set(name, back);
      back.on("error", () => {});
      back.on("message", (answer) => this.#pass(() => this.#front.send(answer, asker.port, asker.host)));
    }
    const socket = back;
    this.#pass(() => socket.send(bytes, this.#target.port, this.#target.host));
  }

  #pass(send: () => void): void {
    const packet = this.#packetCount;
    this.#packetCount += 1;
    if (this.#isLost?.(packet) ?? this.#net.isLost(this.#weather)) {
      this.lostCount += 1;
      return;
    }
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        send();
      },
      this.#net.delayOf({ ...this.#weather, lossRatio: 0 }),
    );
    this.#timers.add(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of [this.#front, ...this.#backs.values()]) await new Promise<void>((resolve) => socket.close(resolve));
  }
}
