/** What others feel of an attack: a client in a process of its own that calls at a fixed rate, whatever it is answered. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { nodeRef } from "../fakes/fabric-values.ts";
import { QUERY } from "./h2-frames.ts";

const CHILD = fileURLToPath(new URL("h2-probe-child.ts", import.meta.url));
const PER_SECOND = 100;

/** What it calls: a path, a token of the cluster, and a message with its frame. */
interface Call {
  readonly path: string;
  readonly token: string;
  readonly bytes: Uint8Array;
}

const FABRIC_PROBE = framed(encodeCallRequest({ kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }));

export class Probe {
  readonly #child: ChildProcess;

  private constructor(port: number, { path, token, bytes }: Call) {
    const args = [CHILD, String(port), path, String(PER_SECOND), token, Buffer.from(bytes).toString("base64")];
    this.#child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  }

  /** Asks for what the demo service holds. */
  static ofCatalog(port: number): Probe {
    return new Probe(port, { path: QUERY, token: "", bytes: Buffer.alloc(5) });
  }

  /** Asks a node of the fabric whether it is there, as one of its own. */
  static ofFabric(port: number, token: string): Probe {
    return new Probe(port, { path: "/waymark.fabric.v1.FabricService/Probe", token, bytes: FABRIC_PROBE });
  }

  /** The p99 of its calls, in ms from when each was due, while `over` runs and at least `leastMs`. */
  async p99Ms(leastMs: number, over: Promise<unknown> = Promise.resolve()): Promise<number> {
    this.#child.send("go");
    await Promise.all([over, new Promise((resolve) => setTimeout(resolve, leastMs))]);
    const told = once(this.#child, "message");
    this.#child.send("stop");
    const times = ((await told)[0] as readonly number[]).toSorted((a, b) => a - b);
    return times[Math.min(times.length - 1, Math.floor(times.length * 0.99))] ?? Number.NaN;
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}
