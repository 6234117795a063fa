/** Defines the environment in which a command runs: terminals, files, environment variables and the node. */
import type { PolicySet } from "../../gen/waymark/policy/v1/policy_pb.js";
import type { EffectiveSettings } from "../config/load.ts";
import type { Settings } from "../config/settings.ts";
import { MAX_TIMER_MS } from "../lib/duration.ts";
import { UsageError } from "./exit.ts";

export interface Terminal {
  write(text: string): void;
  readonly isTty: boolean;
}

/** Information about a node that has started. */
export interface ReadyFacts {
  readonly nodeId: string;
  /** Maps each listener name to `host:port`. */
  readonly listeners: Readonly<Record<string, string>>;
  /** Why `/readyz` does not return 200 after the start, for example because of a wrong clock. Empty if `/readyz` returns 200. */
  readonly fault: string;
}

export interface ServeRequest {
  readonly effective: EffectiveSettings;
  /** Runs when the gRPC listener answers but before the node is ready. `grpc` is the listener's `host:port`. */
  readonly beforeReady?: (grpc: string) => Promise<void>;
  readonly onReady: (facts: ReadyFacts) => void;
}

export interface PolicyReadingProblem {
  /** Path of the field, for example `rules[3].owners[0]`, or empty for the file as a whole. */
  readonly path: string;
  /** 1-based line number in the file, or 0 if unknown. */
  readonly line: number;
  readonly severity: "error" | "warning";
  readonly message: string;
}

/** The result of reading a policy file. */
export interface PolicyReading {
  /** Undefined if the file has errors. */
  readonly policy: PolicySet | undefined;
  readonly problems: readonly PolicyReadingProblem[];
  /** Returns the line of the field at a path or, if it does not exist, the line of its nearest existing parent. */
  readonly lineOf: (path: string) => number;
}

/** The result of checking the hash chain in a copy of an audit log. */
export interface ChainReading {
  readonly isIntact: boolean;
  readonly checked: number;
  /** 0 if there are no records. */
  readonly firstNumber: number;
  readonly lastNumber: number;
  /** In hex. Empty if there are no records. */
  readonly lastHash: string;
  /** The kind of fault, such as `altered`, `missing` or `reordered`. Empty if the chain is intact. */
  readonly fault: string;
  readonly faultNumber: number;
  readonly detail: string;
}

/** Two key files of a cluster, and the validity period. One of the keys announces the other. */
export interface KeyToAnnounce {
  readonly cluster: string;
  readonly keyFile: string;
  readonly byFile: string;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** The announcement of a key. */
export interface AnnouncedKey {
  /** The block that must be added to key files. */
  readonly pem: string;
  readonly keyId: string;
  /** In base64, as in the settings. */
  readonly publicKey: string;
  readonly announcedBy: string;
}

/** The control state that was copied into etcd. */
export interface CopiedStore {
  readonly clusterId: string;
  /** The epoch of the new store, which is higher than the epoch of the copied store. */
  readonly epoch: number;
  /** The newest policy version. 0 if there is none. */
  readonly policyNumber: number;
}

/** A node that becomes an issuer. */
export interface IssuerRequest {
  /** Empty for a root without an issuer. */
  readonly nodeId: string;
  readonly clusterId: string;
  /** The directory with the root and its key. */
  readonly caDir: string;
  /** The data directory of the node. */
  readonly dataDir: string;
}

/** A root and its first issuer. Times are in RFC 3339. */
export interface NewAuthority {
  readonly trustDomain: string;
  readonly nodeId: string;
  readonly clusterId: string;
  /** SHA-256 of the root's public key, in hex. */
  readonly rootDigest: string;
  readonly rootEnds: string;
  /** Empty without an issuer. */
  readonly issuerEnds: string;
}

export interface MeshJoin {
  /** `host:port` of an issuer's fabric listener. */
  readonly server: string;
  /** Empty if the attestation replaces it. */
  readonly token: string;
  /** Empty without one. */
  readonly attestation: string;
  /** The cluster and its roots in PEM, if there is no token, which would name them. */
  readonly clusterId: string;
  readonly roots: string;
  /** Empty if the token decides the name. */
  readonly name: string;
  readonly dataDir: string;
}

/** The identity of this machine. */
export interface Joined {
  readonly role: string;
  readonly name: string;
  readonly clusterId: string;
  readonly expiresAt: string;
}

/** The acts with the certificates of this machine. Each of them throws an error for the operator. */
export interface Certificates {
  /** Makes a root and its first issuer. */
  makeAuthority(asked: IssuerRequest & { readonly trustDomain: string }): NewAuthority;
  /** Makes a node an issuer of an existing root. */
  makeIssuer(asked: IssuerRequest): Pick<NewAuthority, "issuerEnds">;
  /** Joins a cluster with a token or an attestation, and keeps the certificate in the data directory. */
  joinMesh(asked: MeshJoin): Promise<Joined>;
  /**
   * Returns the settings of a node with the files of its identity, if an issuer of the cluster made its certificate. With a file that contains a join
   * token, a node without an identity joins first.
   */
  identified(effective: EffectiveSettings, joinTokenFile?: string): Promise<EffectiveSettings>;
  /** Renews the certificate in a data directory. */
  renewCertificate(dataDir: string): Promise<Joined>;
  /** Makes a key for a program, whose files will be in this directory. */
  newClientKey(directory: string): ClientKey;
}

/** The key of a program, for which an issuer makes a certificate. */
export interface ClientKey {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  /** Writes the key, the certificate and the roots. */
  readonly keep: (issued: { readonly certificates: string; readonly roots: string }) => Promise<void>;
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
  /** Returns the contents of a file as text. `-` is standard input. Throws if the file is larger than `maxBytes`. */
  readText(path: string, maxBytes: number): Promise<string>;
  /** Writes a question to standard error, and returns the line that the user types, or an empty text. Absent without a terminal. */
  readonly ask?: ((question: string) => Promise<string>) | undefined;
  /** Returns the contents of a file that is part of Waymark itself, by its path in the package. */
  readOwn(path: string): Promise<string>;
  /** Converts a name to a DNS label, and a label to a name. The result is undefined if there is no such label or name. */
  readonly labels: { encode(text: string): Promise<string | undefined>; decode(label: string): Promise<string | undefined> };
  /** Reads a policy file according to the same rules as a node. */
  readPolicy(text: string): Promise<PolicyReading>;
  /** Formats a policy set as the text of a file that `readPolicy` accepts. */
  writePolicy(policy: PolicySet, format: "yaml" | "json"): Promise<string>;
  /** Returns warnings about the key and token files in the settings, one line each. */
  fileWarnings(settings: Settings): Promise<readonly string[]>;
  /** Returns the reasons why a node could not start with the files in the settings, one line each. */
  fileFaults(settings: Settings): Promise<readonly string[]>;
  /** Announces the next signing key of a cluster. Throws an error that contains the name of the file but never its content. */
  announceKey(asked: KeyToAnnounce): Promise<AnnouncedKey>;
  /** Copies the control state of a stopped node into etcd. Throws an error for the operator. */
  copyStore(settings: Settings): Promise<CopiedStore>;
  /** Loads the acts with the certificates of this machine. */
  certificates(): Promise<Certificates>;
  /** Verifies the hash chain of an audit log in JSON Lines. */
  verifyAudit(text: string): Promise<ChainReading>;
  /** Allows SIGHUP to end the process, because this command does not run a node. */
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
 * Reads a file that is named on the command line (`-` is standard input). Throws a UsageError if the file cannot be read. `source` is the flag or
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
