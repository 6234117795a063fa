/** The owner of the audit log's file, for its thread: it writes, prunes, reads and checks, one slice at a time. */
import { serving } from "../thread.io.ts";
import { AuditFile, type AuditFileOptions } from "./file.io.ts";

export const serve = serving((options: AuditFileOptions) => new AuditFile(options));
