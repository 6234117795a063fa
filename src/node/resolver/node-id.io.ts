/** The id of a resolver that is given none: it is made once, and kept in the data directory. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { DATA_FILES } from "../../store/data-directory.ts";

/** Throws when the file cannot be read or written, or holds no id. */
export function resolverIdOf({ node, persistence }: Settings): string {
  if (node.id !== undefined) return node.id;
  const made = `resolver-${randomBytes(4).toString("hex")}`;
  if (persistence.ephemeral) return made;
  const path = join(persistence.dataDir, DATA_FILES.resolverId);
  const kept = readId(path);
  if (kept !== undefined) return kept;
  mkdirSync(persistence.dataDir, { recursive: true, mode: 0o700 });
  // Not over one that another process has just written.
  writeFileSync(path, made, { mode: 0o600, flag: "wx" });
  return made;
}

function readId(path: string): string | undefined {
  let id: string;
  try {
    id = readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  if (/^[A-Za-z0-9._-]{1,64}$/.test(id)) return id;
  throw new Error(`${path} does not hold the id of a resolver; set node.id, or remove the file for a new id`);
}
