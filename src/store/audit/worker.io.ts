/** The thread that owns the audit log's file: it writes, prunes, reads and checks, a slice at a time. */
import { serveThread } from "../thread.io.ts";
import { AuditFile, type AuditFileOptions } from "./file.io.ts";

serveThread((options: AuditFileOptions) => new AuditFile(options));
