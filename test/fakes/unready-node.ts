/** A real node that may never be ready, and so never tells where it listens. */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { CommandProcess } from "./node-process.ts";

/** Below those that the kernel gives to whoever asks for any (from 32768 on Linux): so no connection of others takes one before the node has it. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;

/** Ports that were free a moment ago: a node that is never ready does not tell its own. */
export async function freePorts(count: number): Promise<readonly string[]> {
  const servers: Server[] = [];
  while (servers.length < count) {
    const server = createServer();
    const isOpen = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(FIRST_PORT + randomInt(PORT_COUNT), "127.0.0.1", () => resolve(true));
    });
    if (isOpen) servers.push(server);
  }
  const ports = servers.map((server) => String((server.address() as AddressInfo).port));
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** A node that may never be ready, by its doors. */
export class UnreadyNode implements AsyncDisposable {
  readonly command: CommandProcess;
  readonly grpc: string;
  readonly http: string;
  readonly fabric: string;

  constructor(flags: readonly string[], [grpc = "", http = "", fabric = ""]: readonly string[]) {
    const ports = ["--grpc-port", grpc, "--http-port", http, "--fabric-port", fabric, "--dns-port", "0"];
    this.command = new CommandProcess(["serve", "-o", "json", ...ports, ...flags]);
    [this.grpc, this.http, this.fabric] = [`127.0.0.1:${grpc}`, `127.0.0.1:${http}`, `127.0.0.1:${fabric}`];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.command[Symbol.asyncDispose]();
  }
}

/** Status and text of `/readyz`; 0 while the door is not open. */
export async function readyz(http: string): Promise<string> {
  try {
    const answer = await fetch(`http://${http}/readyz`);
    return `${answer.status} ${await answer.text()}`;
  } catch {
    return "0";
  }
}
