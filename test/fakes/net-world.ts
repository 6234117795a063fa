/**
 * Machines of a network of their own on this one: each a network namespace with one address, all on one bridge. Needs root and `ip`
 * (iproute2). Nothing that is sent here leaves this machine; the addresses are those set aside for tests of networks (RFC 2544).
 */
import { execFileSync } from "node:child_process";

/** Of a neighbour that is not there: what is sent to it is lost in silence. */
const NOWHERE = "02:00:00:00:00:fe";

/** Whether this process may make namespaces. */
export function canNamespaces(): boolean {
  const name = `wm${process.pid}probe`;
  try {
    ip("netns", "add", name);
    ip("netns", "del", name);
    return true;
  } catch {
    return false;
  }
}

function ip(...args: readonly string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

export class NetWorld implements Disposable {
  readonly names: readonly string[];
  readonly #bridge = `wm${process.pid}`;
  readonly #cuts = new Set<string>();
  readonly #onExit = () => this[Symbol.dispose]();
  #isOpen = true;

  constructor(names: readonly string[]) {
    this.names = names;
    process.on("exit", this.#onExit);
    try {
      ip("link", "add", this.#bridge, "type", "bridge");
      ip("addr", "add", "198.18.7.254/24", "dev", this.#bridge);
      ip("link", "set", this.#bridge, "up");
      for (const name of names) this.#plug(name);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  addressOf(name: string): string {
    return `198.18.7.${this.names.indexOf(name) + 1}`;
  }

  /** What is put before a command to run it at that machine. */
  wrapperOf(name: string): readonly string[] {
    return ["ip", "netns", "exec", this.#spaceOf(name)];
  }

  /** The machine is gone: nothing that it sends arrives, nothing arrives at it, and nobody is told. */
  unplug(name: string): void {
    ip("link", "set", portOf(this.#spaceOf(name)), "down");
  }

  /** From now on nothing of `from` arrives at `to`; the other way is another cut. */
  cut(from: string, to: string): void {
    this.#cuts.add(`${from} ${to}`);
    ip("-n", this.#spaceOf(from), "neigh", "replace", this.addressOf(to), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent");
  }

  /** Ends all cuts. */
  heal(): void {
    for (const pair of this.#cuts) {
      const [from = "", to = ""] = pair.split(" ");
      ip("-n", this.#spaceOf(from), "neigh", "del", this.addressOf(to), "dev", "eth0");
    }
    this.#cuts.clear();
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off("exit", this.#onExit);
    for (const name of this.names) {
      // A namespace lasts while a process in it does; its cable need not.
      attempt(() => ip("link", "del", portOf(this.#spaceOf(name))));
      attempt(() => ip("netns", "del", this.#spaceOf(name)));
    }
    attempt(() => ip("link", "del", this.#bridge));
  }

  #spaceOf(name: string): string {
    return `${this.#bridge}${name}`;
  }

  #plug(name: string): void {
    const space = this.#spaceOf(name);
    const port = portOf(space);
    ip("netns", "add", space);
    ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space);
    ip("link", "set", port, "master", this.#bridge, "up");
    ip("-n", space, "addr", "add", `${this.addressOf(name)}/24`, "dev", "eth0");
    ip("-n", space, "link", "set", "eth0", "up");
    ip("-n", space, "link", "set", "lo", "up");
  }
}

/** The end of its cable at the bridge. */
function portOf(space: string): string {
  return `${space}p`;
}

function attempt(step: () => void): void {
  try {
    step();
  } catch {
    // What was never made cannot be taken away.
  }
}
