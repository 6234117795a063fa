/**
 * Faults between real processes, in user space: every node is reached by way of a proxy of its own, which knows from whom a
 * connection comes and delays, stalls, or cuts what that pair says. TCP and UDP.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { Rng } from "../../src/lib/rng.ts";

/** What happens on the way from one node to another. */
export interface Fault {
  readonly delayMs: number;
  /** Up to this much more, evenly. */
  readonly jitterMs: number;
  /** Share of chunks (TCP) held back for a retransmission, or of packets (UDP) lost. */
  readonly lossRatio: number;
  /** Nothing passes, and nobody is told. */
  readonly isCut: boolean;
}

const NONE: Fault = { delayMs: 0, jitterMs: 0, lossRatio: 0, isCut: false };

/** What TCP needs at least to notice a lost segment and send it again (RFC 6298 §2.4 as Linux has it). */
const RETRANSMIT_MS = 200;
const MAX_HELD_BYTES = 16 * 1024 * 1024;

export class FaultNet implements AsyncDisposable {
  readonly #rng: Rng;
  readonly #faults = new Map<string, Fault>();
  readonly #gates = new Map<string, Gate>();
  readonly #pipes = new Set<Pipe>();
  /** Name to process id. */
  readonly #pids = new Map<string, number>();

  constructor(seed: string | number) {
    this.#rng = new Rng(seed);
  }

  /** A way in to a node that is to listen on `targetHost` and the same port. Nodes are to advertise 127.0.0.1. */
  async gate(name: string, targetHost: string): Promise<number> {
    const server = createServer((socket) => this.#accept(name, socket, { host: targetHost, port: (server.address() as AddressInfo).port }));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    this.#gates.set(name, { server });
    return (server.address() as AddressInfo).port;
  }

  /** Who runs in a process; connections of others come from `outside`. To be called again when it is started again. */
  isIn(name: string, pid: number): void {
    this.#pids.set(name, pid);
  }

  /** Sets what happens from one to the other; for connections there already, too. */
  set(from: string, to: string, fault: Partial<Fault>): void {
    this.#faults.set(`${from}>${to}`, { ...NONE, ...fault });
    for (const pipe of this.#pipes) pipe.pump();
  }

  /** Sets it between all of them, both ways. */
  setAll(names: readonly string[], fault: Partial<Fault>): void {
    for (const from of names) for (const to of names) if (from !== to) this.set(from, to, fault);
  }

  /** Cuts every pair of different sides, both ways. */
  partition(sides: readonly (readonly string[])[]): void {
    for (const side of sides)
      for (const other of sides) {
        if (side === other) continue;
        for (const from of side) for (const to of other) this.set(from, to, { isCut: true });
      }
  }

  heal(): void {
    this.#faults.clear();
    for (const pipe of this.#pipes) pipe.pump();
  }

  faultOf(from: string, to: string): Fault {
    return this.#faults.get(`${from}>${to}`) ?? NONE;
  }

  /** When a chunk that came now may go on; never before one that came before it (TCP keeps order). */
  delayOf(fault: Fault): number {
    const isLost = fault.lossRatio > 0 && this.#rng.next() < fault.lossRatio;
    return fault.delayMs + fault.jitterMs * this.#rng.next() + (isLost ? RETRANSMIT_MS : 0);
  }

  isLost(fault: Fault): boolean {
    return fault.isCut || (fault.lossRatio > 0 && this.#rng.next() < fault.lossRatio);
  }

  #accept(to: string, socket: Socket, target: { readonly host: string; readonly port: number }): void {
    const from = this.#sourceOf(socket.remotePort ?? 0);
    const onward = connect({ ...target, allowHalfOpen: true });
    const there = new Pipe({ source: socket, sink: onward, fault: () => this.faultOf(from, to), net: this });
    const back = new Pipe({ source: onward, sink: socket, fault: () => this.faultOf(to, from), net: this });
    for (const pipe of [there, back]) this.#pipes.add(pipe);
    const end = () => {
      // Nobody is told of an end that happens beyond a cut either.
      if (this.faultOf(from, to).isCut || this.faultOf(to, from).isCut) return;
      socket.destroy();
      onward.destroy();
      for (const pipe of [there, back]) this.#pipes.delete(pipe);
    };
    for (const each of [socket, onward]) {
      each.on("error", () => {});
      each.on("close", end);
    }
  }

  /** Whose connection it is: the process that holds the other end's socket (proc(5), `net/tcp` and `fd`). */
  #sourceOf(port: number): string {
    const hexPort = port.toString(16).toUpperCase().padStart(4, "0");
    const row = readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .find(([, local]) => local?.endsWith(`:${hexPort}`));
    const inode = row?.[9];
    for (const [name, pid] of this.#pids) if (inode !== undefined && holdsSocket(pid, inode)) return name;
    return "outside";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pipe of this.#pipes) pipe.destroy();
    await Promise.all([...this.#gates.values()].map(({ server }) => new Promise((resolve) => server.close(resolve))));
  }
}

interface Gate {
  readonly server: Server;
}

function holdsSocket(pid: number, inode: string): boolean {
  try {
    const folder = `/proc/${pid}/fd`;
    return readdirSync(folder).some((fd) => {
      try {
        return readlinkSync(`${folder}/${fd}`) === `socket:[${inode}]`;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

interface PipeParts {
  readonly source: Socket;
  readonly sink: Socket;
  readonly fault: () => Fault;
  readonly net: FaultNet;
}

/** One direction of one connection: what came, and when each part of it may go on. */
class Pipe {
  readonly #parts: PipeParts;
  readonly #held: { readonly bytes: Buffer | undefined; readonly dueMs: number }[] = [];
  #heldBytes = 0;
  #lastDueMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: PipeParts) {
    this.#parts = parts;
    parts.source.on("data", (bytes: Buffer) => this.#take(bytes));
    parts.source.on("end", () => this.#take(undefined));
  }

  #take(bytes: Buffer | undefined): void {
    const { net, fault, source } = this.#parts;
    this.#lastDueMs = Math.max(this.#lastDueMs, performance.now() + net.delayOf(fault()));
    this.#held.push({ bytes, dueMs: this.#lastDueMs });
    this.#heldBytes += bytes?.length ?? 0;
    if (this.#heldBytes > MAX_HELD_BYTES) source.pause();
    this.pump();
  }

  /** Lets go on what is due. */
  pump(): void {
    const { sink, source, fault } = this.#parts;
    clearTimeout(this.#timer);
    if (fault().isCut) return;
    for (let first = this.#held[0]; first !== undefined && first.dueMs <= performance.now(); first = this.#held[0]) {
      this.#held.shift();
      this.#heldBytes -= first.bytes?.length ?? 0;
      if (first.bytes === undefined) sink.end();
      else if (!sink.destroyed) sink.write(first.bytes);
    }
    if (source.isPaused() && this.#heldBytes < MAX_HELD_BYTES / 2) source.resume();
    const [next] = this.#held;
    if (next !== undefined) this.#timer = setTimeout(() => this.pump(), Math.max(1, next.dueMs - performance.now()));
  }

  destroy(): void {
    clearTimeout(this.#timer);
    this.#parts.source.destroy();
    this.#parts.sink.destroy();
  }
}

/** A lossy, slow way to a UDP port; each asker keeps a socket of its own towards the target. */
export class FaultyUdp implements AsyncDisposable {
  readonly #front: UdpSocket;
  readonly #backs = new Map<string, UdpSocket>();
  readonly #net: FaultNet;
  readonly #target: { readonly host: string; readonly port: number };
  fault: Fault = NONE;

  private constructor(net: FaultNet, front: UdpSocket, target: { readonly host: string; readonly port: number }) {
    this.#net = net;
    this.#front = front;
    this.#target = target;
    front.on("message", (bytes, { address, port }) => this.#ask(bytes, { address, port }));
  }

  static async open(net: FaultNet, target: { readonly host: string; readonly port: number }): Promise<FaultyUdp> {
    const front = createSocket("udp4");
    front.bind(0, "127.0.0.1");
    await once(front, "listening");
    return new FaultyUdp(net, front, target);
  }

  get port(): number {
    return this.#front.address().port;
  }

  #ask(bytes: Buffer, asker: { readonly address: string; readonly port: number }): void {
    const name = `${asker.address}:${asker.port}`;
    let back = this.#backs.get(name);
    if (back === undefined) {
      back = createSocket("udp4");
      this.#backs.set(name, back);
      back.on("error", () => {});
      back.on("message", (answer) => this.#pass(() => this.#front.send(answer, asker.port, asker.address)));
    }
    const socket = back;
    this.#pass(() => socket.send(bytes, this.#target.port, this.#target.host));
  }

  #pass(send: () => void): void {
    if (this.#net.isLost(this.fault)) return;
    setTimeout(send, this.#net.delayOf({ ...this.fault, lossRatio: 0 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of [this.#front, ...this.#backs.values()]) await new Promise<void>((resolve) => socket.close(resolve));
  }
}
