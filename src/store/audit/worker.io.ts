/** Runs in the audit log's thread and owns its file: writes, prunes, reads and checks it, one slice at a time. */
import { serving } from "../thread.io.ts";
import { AuditFile, type AuditFileOptions } from "./file.io.ts";

export const serve = serving((options: AuditFileOptions) => new AuditFile(options));
