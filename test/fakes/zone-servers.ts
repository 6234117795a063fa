/** Knot and NSD with a zone that they take from our gateway, and a socket that asks many questions at a time. */
import { spawn } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./probed-servers.ts";
import { until } from "./until.ts";

/** Before a question is sent again: a datagram may be lost. */
const AGAIN_MS = 1000;
const MAX_SENDS = 20;

/** Asks over UDP, any number of questions at a time but at most 65,536. */
export class DnsAsker implements Disposable {
  readonly #socket: Socket;
  readonly #to: { readonly host: string; readonly port: number };
  readonly #waiting = new Map<number, (message: Buffer) => void>();
  #nextId = 1;

  private constructor(socket: Socket, server: string) {
    const [host = "", port = ""] = server.split(":");
    this.#socket = socket;
    this.#to = { host, port: Number(port) };
    socket.on("message", (message) => this.#waiting.get(message.readUInt16BE(0))?.(message));
  }

  /** `server` is `host:port`. */
  static async open(server: string): Promise<DnsAsker> {
    const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    return new DnsAsker(socket, server);
  }

  /** The answer to a query, whose id this socket sets. */
  async ask(query: Uint8Array): Promise<Buffer> {
    const id = this.#nextId;
    this.#nextId = (id + 1) % 0x1_0000;
    const bytes = Buffer.from(query);
    bytes.writeUInt16BE(id, 0);
    const answered = Promise.withResolvers<Buffer>();
    this.#waiting.set(id, answered.resolve);
    const send = () => this.#socket.send(bytes, this.#to.port, this.#to.host);
    let sent = 1;
    const timer = setInterval(() => {
      if (sent++ < MAX_SENDS) return send();
      answered.reject(new Error(`no answer from port ${this.#to.port}`));
    }, AGAIN_MS);
    try {
      send();
      return await answered.promise;
    } finally {
      clearInterval(timer);
      this.#waiting.delete(id);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

export interface ZoneServer extends AsyncDisposable {
  /** `host:port`. */
  readonly at: string;
}

/** Where a zone is taken from, by AXFR with a key (TSIG, hmac-sha256). */
export interface Primary {
  /** `host:port`. */
  readonly at: string;
  readonly keyName: string;
  /** In base64. */
  readonly secret: string;
}

interface Program {
  readonly command: string;
  readonly args: (config: string) => readonly string[];
  readonly config: (at: {
    readonly folder: string;
    readonly port: number;
    readonly zone: string;
    readonly primary: Primary;
  }) => readonly string[];
}

const ZONE_SERVERS = {
  Knot: {
    command: "knotd",
    args: (config) => ["-c", config],
    config: ({ folder, port, zone, primary: { at, keyName, secret } }) => [
      `server:\n    rundir: ${folder}\n    listen: 127.0.0.1@${port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1`,
      `database:\n    storage: ${folder}`,
      `key:\n  - id: ${keyName}\n    algorithm: hmac-sha256\n    secret: ${secret}`,
      `remote:\n  - id: ours\n    address: ${at.replace(":", "@")}\n    key: ${keyName}`,
      `zone:\n  - domain: ${zone}\n    master: ours\n    zonefile-load: none\n    zonefile-sync: -1\n    journal-content: none`,
    ],
  },
  NSD: {
    command: "nsd",
    args: (config) => ["-d", "-c", config],
    config: ({ folder, port, zone, primary: { at, keyName, secret } }) => [
      `server:\n    ip-address: 127.0.0.1@${port}\n    username: ""\n    server-count: 1\n    database: ""\n    zonesdir: ${folder}`,
      // Without this it bounds the rate of the answers to one network.
      "    rrl-ratelimit: 0",
      `    pidfile: ${folder}/pid\n    logfile: ${folder}/log\n    xfrdfile: ${folder}/xfrd\n    xfrdir: ${folder}\n    zonelistfile: ${folder}/zones`,
      "remote-control:\n    control-enable: no",
      `key:\n    name: ${keyName}\n    algorithm: hmac-sha256\n    secret: "${secret}"`,
      `zone:\n    name: ${zone}\n    zonefile: zone\n    request-xfr: AXFR ${at.replace(":", "@")} ${keyName}\n    allow-notify: 127.0.0.1 NOKEY`,
    ],
  },
} as const satisfies Readonly<Record<string, Program>>;

/** Starts one that takes the zone from there, and waits until it answers. */
export async function startZoneServer(
  name: keyof typeof ZONE_SERVERS,
  zone: string,
  primary: Primary,
  probe: Uint8Array,
): Promise<ZoneServer> {
  const program = ZONE_SERVERS[name];
  const folder = mkdtempSync(join(tmpdir(), "waymark-zone-"));
  const [port, config] = [await freePort(), join(folder, "config")];
  writeFileSync(config, `${program.config({ folder, port, zone, primary }).join("\n")}\n`);
  const child = spawn(program.command, program.args(config), { stdio: "ignore" });
  const exited = once(child, "exit");
  const dispose = async () => {
    child.kill("SIGKILL");
    await exited;
    rmSync(folder, { recursive: true });
  };
  const at = `127.0.0.1:${port}`;
  try {
    using asker = await DnsAsker.open(at);
    // NOERROR: before it has the zone it refuses, or fails.
    await until(`${name} has the zone`, async () => child.exitCode === null && ((await asker.ask(probe)).at(3) ?? 15) % 16 === 0);
  } catch (error) {
    await dispose();
    throw error;
  }
  return { at, [Symbol.asyncDispose]: dispose };
}
