/** The environment in which a command runs: terminals, files, environment variables and the node. */
import type { PolicySet } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { EffectiveSettings } from "../config/load.ts";
import type { Settings } from "../config/settings.ts";
import { MAX_TIMER_MS } from "../lib/duration.ts";
import { UsageError } from "./exit.ts";

export interface Terminal {
  write(text: string): void;
  readonly isTty: boolean;
}

/** Information about a node at the end of its start. */
export interface ReadyFacts {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Why `/readyz` does not return 200 after the start, for example because of a wrong clock; empty if it does. */
  readonly fault: string;
}

export interface ServeRequest {
  readonly effective: EffectiveSettings;
  /** Runs when the gRPC listener answers and before the node is ready; `grpc` is its `host:port`. */
  readonly beforeReady?: (grpc: string) => Promise<void>;
  readonly onReady: (facts: ReadyFacts) => void;
}

export interface PolicyReadingProblem {
  /** Path of the field, for example `rules[3].owners[0]`; empty for the file as a whole. */
  readonly path: string;
  /** 1-based line of the file; 0 when unknown. */
  readonly line: number;
  readonly severity: "error" | "warning";
  readonly message: string;
}

/** The result of reading a policy file. */
export interface PolicyReading {
  /** Undefined when the file has errors. */
  readonly policy: PolicySet | undefined;
  readonly problems: readonly PolicyReadingProblem[];
  /** Line of the field at a path, or of the nearest existing part above it. */
  readonly lineOf: (path: string) => number;
}

/** The result of checking the hash chain of a copy of an audit log. */
export interface ChainReading {
  readonly isIntact: boolean;
  readonly checked: number;
  /** 0 when there are no records. */
  readonly firstNumber: number;
  readonly lastNumber: number;
  /** In hex; empty when there are no records. */
  readonly lastHash: string;
  /** `altered`, `missing`, `reordered`, … ; empty when intact. */
  readonly fault: string;
  readonly faultNumber: number;
  readonly detail: string;
}

/** Two key files of a cluster, and the validity period. One key announces the other. */
export interface KeyToAnnounce {
  readonly cluster: string;
  readonly keyFile: string;
  readonly byFile: string;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** The announcement of a key. */
export interface AnnouncedKey {
  /** The block that goes into key files. */
  readonly pem: string;
  readonly keyId: string;
  /** In base64, as in the settings. */
  readonly publicKey: string;
  readonly announcedBy: string;
}

export interface Environment {
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  /** Aborts on SIGINT or SIGTERM. */
  readonly interrupt: AbortSignal;
  /** Runs `act` after `delayMs`. The returned function cancels it. */
  later(act: () => void, delayMs: number): () => void;
  /** Contents of a file as text; `-` is standard input. Throws when the file has more than `maxBytes`. */
  readText(path: string, maxBytes: number): Promise<string>;
  /** Contents of a file that belongs to Waymark itself, by its path in the package. */
  readOwn(path: string): Promise<string>;
  /** Converts a name to a DNS label, and a label to a name. The result is undefined if there is no such label or name. */
  readonly labels: { encode(text: string): Promise<string | undefined>; decode(label: string): Promise<string | undefined> };
  /** Reads a policy file by the same rules as a node. */
  readPolicy(text: string): Promise<PolicyReading>;
  /** A policy set as the text of a file that `readPolicy` accepts. */
  writePolicy(policy: PolicySet, format: "yaml" | "json"): Promise<string>;
  /** Warnings about the key and token files that the settings name, one line each. */
  fileWarnings(settings: Settings): Promise<readonly string[]>;
  /** The reasons why a node could not start with the files that the settings name, one line each. */
  fileFaults(settings: Settings): Promise<readonly string[]>;
  /** Announces the next signing key of a cluster. Throws with a message that names the file and never its content. */
  announceKey(asked: KeyToAnnounce): Promise<AnnouncedKey>;
  /** Verifies the hash chain of an audit log in JSON Lines. */
  verifyAudit(text: string): Promise<ChainReading>;
  /** Lets SIGHUP end the process, because this command does not run a node. */
  runsNoNode(): void;
  /** Runs a node until it is stopped. Throws if it cannot start. */
  serve(request: ServeRequest): Promise<void>;
}

/** Resolves after `lengthMs`, at most 24 days (the longest timer), or immediately on interrupt. */
export function sleep({ later, interrupt }: Pick<Environment, "later" | "interrupt">, lengthMs: number): Promise<void> {
  if (interrupt.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const cancel = later(
      () => {
        interrupt.removeEventListener("abort", stop);
        resolve();
      },
      Math.min(lengthMs, MAX_TIMER_MS),
    );
    const stop = (): void => {
      cancel();
      resolve();
    };
    interrupt.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Reads a file that the command line names (`-` is standard input). Throws a UsageError when it cannot be read. `source` is the flag or
 * variable that names the file.
 */
export async function readInput(environment: Environment, file: string, maxBytes: number, source?: string): Promise<string> {
  try {
    return await environment.readText(file, maxBytes);
  } catch (error) {
    const named = source === undefined ? file : `${source} ${file}`;
    throw new UsageError(`cannot read ${named}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
