/** Everything the command line touches outside itself, as one value: terminals, files, environment, the node. */
import type { PolicySet } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { Effective } from "../config/load.ts";
import type { Settings } from "../config/settings.ts";
import { UsageError } from "./exit.ts";

export interface Terminal {
  write(text: string): void;
  readonly isTty: boolean;
}

/** What a node tells when its start is over. */
export interface ReadyFacts {
  readonly nodeId: string;
  /** Listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Why `/readyz` does not answer 200 all the same, as with a clock that is off; empty when it does. */
  readonly fault: string;
}

export interface ServeRequest {
  readonly effective: Effective;
  /** Runs when the gRPC listener answers and before the node is ready; `grpc` is its `host:port`. */
  readonly beforeReady?: (grpc: string) => Promise<void>;
  readonly onReady: (facts: ReadyFacts) => void;
}

export interface PolicyProblem {
  /** Of the field, for example `rules[3].owners[0]`; empty for the file as a whole. */
  readonly path: string;
  /** 1-based line of the file; 0 when unknown. */
  readonly line: number;
  readonly severity: "error" | "warning";
  readonly message: string;
}

/** What reading a policy file found. */
export interface PolicyReading {
  /** Undefined when the file has errors. */
  readonly policy: PolicySet | undefined;
  readonly problems: readonly PolicyProblem[];
  /** Line of the field at a path, or of the nearest part above it that is there. */
  readonly lineOf: (path: string) => number;
}

/** What following the chain of a copy of an audit log found. */
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

export interface Environment {
  readonly version: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Terminal;
  readonly stderr: Terminal;
  /** Aborts on SIGINT or SIGTERM. */
  readonly interrupt: AbortSignal;
  /** Does it in so many ms, unless what this returns is called before. */
  later(act: () => void, delayMs: number): () => void;
  /** Contents of a file as text; `-` is standard input. Throws when there are more than `maxBytes`. */
  readText(path: string, maxBytes: number): Promise<string>;
  /** Contents of a file that belongs to Waymark itself, by its path in the package. */
  readOwn(path: string): Promise<string>;
  /** A name as a DNS label and back; undefined when no label can carry it, or stands for none. */
  readonly labels: { encode(text: string): Promise<string | undefined>; decode(label: string): Promise<string | undefined> };
  /** Reads a policy file as a node would. */
  readPolicy(text: string): Promise<PolicyReading>;
  /** A policy set as a file that `readPolicy` takes. */
  writePolicy(policy: PolicySet, format: "yaml" | "json"): Promise<string>;
  /** What is wrong with the files of keys and tokens that settings name, a line each. */
  fileWarnings(settings: Settings): Promise<readonly string[]>;
  /** Why a node could not start with the files that settings name, a line each. */
  fileFaults(settings: Settings): Promise<readonly string[]>;
  /** Follows the hash chain of an audit log in JSON lines. */
  verifyAudit(text: string): Promise<ChainReading>;
  /** This command line runs no node: whatever hangs up ends it. */
  runsNoNode(): void;
  /** Runs a node until it is told to stop. Throws when it cannot start. */
  serve(request: ServeRequest): Promise<void>;
}

/** Resolves after `lengthMs`, or at once when the command is interrupted. */
export function sleep({ later, interrupt }: Pick<Environment, "later" | "interrupt">, lengthMs: number): Promise<void> {
  if (interrupt.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const cancel = later(() => {
      interrupt.removeEventListener("abort", stop);
      resolve();
    }, lengthMs);
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
