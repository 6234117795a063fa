/** Everything the command line touches outside itself, as one value: terminals, files, environment, the node. */
import type { Effective } from "../config.ts";

export interface Terminal {
  write(text: string): void;
  readonly isTty: boolean;
}

/** What a started node tells when `/readyz` first answers 200. */
export interface ReadyFacts {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
}

export interface ServeRequest {
  readonly effective: Effective;
  /** Runs when the gRPC listener answers and before the node is ready; `grpc` is its `host:port`. */
  readonly beforeReady?: (grpc: string) => Promise<void>;
  readonly onReady: (facts: ReadyFacts) => void;
}

export interface World {
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  /** Aborts on SIGINT or SIGTERM. */
  readonly interrupt: AbortSignal;
  /** Contents of a file as text; `-` is standard input. Throws when there are more than `maxBytes`. */
  readText(path: string, maxBytes: number): Promise<string>;
  /** Contents of a file that belongs to Waymark itself, by its path in the package. */
  readOwn(path: string): Promise<string>;
  /** A name as a DNS label and back; undefined when no label can carry it, or stands for none. */
  readonly labels: { encode(text: string): string | undefined; decode(label: string): string | undefined };
  /** Runs a node until it is told to stop. Throws when it cannot start. */
  serve(request: ServeRequest): Promise<void>;
}
