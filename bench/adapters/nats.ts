/**
 * NATS as our fan-out stands beside it, with its own defaults.
 *
 * Made equal: bytes of a change, subscriptions a connection (100, each with an id of its own), changes under way, no TLS, one core
 * (`GOMAXPROCS=1`, and pinned to the core that our node has in its turn), a driver that looks for the ends of messages alone and
 * sends what comes in one turn in one write. A change
 * counts as made when the server has answered a PING after it, as ours counts when it is answered: one more line for a change, which
 * is a thousandth of what it delivers to a thousand watches.
 * Not equal, for us: NATS keeps nothing. It has no disk, no snapshot for who comes late and no resuming, and it drops a subscriber
 * that is slow. It has no filters but the subject, so it is asked only where all watches have one filter. Not equal, for NATS: it does
 * not gather changes that come together, so each is a message of its own.
 */
import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf } from "../_processes.ts";
import type { Address } from "../_wire.ts";

const START_MS = 10_000;
const CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\n';
const LINE_END = Buffer.from("\r\n");
const PING_AFTER = Buffer.from("\r\nPING\r\n");
const NOTHING = Buffer.alloc(0);

/** Starts one server; undefined when it is not installed. */
export async function startNats(): Promise<Running | undefined> {
  const program = peerProgram("nats");
  if (program === undefined) return undefined;
  const port = await freePort();
  const [command, args] = onServerCore(program, ["--addr", "127.0.0.1", "--port", String(port)]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1" } });
  const grpc = { host: "127.0.0.1", port };
  for (;;) {
    try {
      (await NatsWire.open(grpc, () => {})).close();
      break;
    } catch (error) {
      if (performance.now() - startedMs > START_MS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  return runningOf("nats", child, { grpc, startMs: performance.now() - startedMs });
}

/** A connection of the text protocol, as cheap as our own: it looks for the ends of messages and at no payload. */
export class NatsWire {
  readonly #socket: Socket;
  readonly #onMessage: (subscription: number) => void;
  readonly #pongs: (() => void)[] = [];
  #carry: Buffer = NOTHING;
  #isCorked = false;

  private constructor(socket: Socket, onMessage: (subscription: number) => void) {
    this.#socket = socket;
    this.#onMessage = onMessage;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => socket.destroy());
    this.#write(CONNECT);
  }

  static async open(to: Address, onMessage: (subscription: number) => void): Promise<NatsWire> {
    const socket = connect(to);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new NatsWire(socket, onMessage);
  }

  subscribe(subject: string, subscription: number): void {
    this.#write(`SUB ${subject} ${subscription}\r\n`);
  }

  /** Resolves when the server has taken it and all before it. */
  publish(subject: string, payload: Uint8Array): Promise<void> {
    this.#write(Buffer.concat([Buffer.from(`PUB ${subject} ${payload.length}\r\n`), payload, PING_AFTER]));
    return this.#answered();
  }

  settled(): Promise<void> {
    this.#write("PING\r\n");
    return this.#answered();
  }

  close(): void {
    this.#socket.destroy();
  }

  #answered(): Promise<void> {
    return new Promise((resolve) => this.#pongs.push(resolve));
  }

  /** What is written in one turn leaves in one write, as at our own wire. */
  #write(bytes: Buffer | string): void {
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#socket.uncork();
      });
    }
    this.#socket.write(bytes);
  }

  #take(chunk: Buffer): void {
    const bytes = this.#carry.length === 0 ? chunk : Buffer.concat([this.#carry, chunk]);
    let at = 0;
    for (;;) {
      const end = bytes.indexOf(LINE_END, at);
      if (end < 0) break;
      // "M" of MSG, "P" of PING and PONG, "I" of INFO, "-" of -ERR.
      if (bytes[at] === 0x4d) {
        const [, , subscription = "", size = ""] = bytes.toString("latin1", at, end).split(" ");
        const next = end + 2 + Number(size) + 2;
        if (next > bytes.length) break;
        this.#onMessage(Number(subscription));
        at = next;
        continue;
      }
      const line = bytes.toString("latin1", at, end);
      if (line === "PING") this.#write("PONG\r\n");
      else if (line === "PONG") this.#pongs.shift()?.();
      else if (line.startsWith("-ERR")) throw new Error(`nats: ${line}`);
      at = end + 2;
    }
    this.#carry = at === bytes.length ? NOTHING : bytes.subarray(at);
  }
}
