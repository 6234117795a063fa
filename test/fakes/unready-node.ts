/** A real node that may never be ready: it tells where it listens all the same, in its log. */
import { CommandProcess, onFreePorts } from "./node-process.ts";

/** A node that may never be ready, by its listeners, which are open. */
export class UnreadyNode implements AsyncDisposable {
  readonly command: CommandProcess;
  /** `host:port` by listener. */
  readonly #listeners: Readonly<Record<string, string>>;

  private constructor(command: CommandProcess, listeners: Readonly<Record<string, string>>) {
    this.command = command;
    this.#listeners = listeners;
  }

  /** Starts it on free ports, or on those the flags say, and waits until it listens. */
  static async start(flags: readonly string[]): Promise<UnreadyNode> {
    const command = new CommandProcess(["serve", "-o", "json", ...onFreePorts(flags), "--log-level", "info"]);
    try {
      return new UnreadyNode(command, JSON.parse(await command.errorLine(/"msg":"node is listening"/)) as Record<string, string>);
    } catch (error) {
      // Nobody else would stop it.
      await command[Symbol.asyncDispose]();
      throw error;
    }
  }

  get grpc(): string {
    return this.#listeners["grpc"] ?? "";
  }

  get http(): string {
    return this.#listeners["http"] ?? "";
  }

  get dns(): string {
    return this.#listeners["dns"] ?? "";
  }

  get fabric(): string {
    return this.#listeners["fabric"] ?? "";
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.command[Symbol.asyncDispose]();
  }
}

/** Status and text of `/readyz`. */
export async function readyz(http: string): Promise<string> {
  const answer = await fetch(`http://${http}/readyz`);
  return `${answer.status} ${await answer.text()}`;
}
