package wardgate.tests.hazard_paths

import data.wardgate.rules.hazard_paths
import rego.v1

refused(args) if {
	got := hazard_paths.deny with input.call.args as args
	{member.code | some member in got} == {"sensitive_path"}
}

test_sensitive_files_are_denied if {
	every path in ["/etc/shadow", "file:///etc/passwd", "/home/ann/.ssh/id_rsa", "../../x", "a/%2e%2e/b", "/srv/app/.env", "/home/bob/.aws/credentials", "/proc/self/environ", "server.pem", "repo/.git/config"] {
		refused({"path": path})
	}
}

test_paths_are_found_in_lists if refused({"paths": ["a.txt", "/etc/shadow"]})

test_files_of_the_project_pass if {
	every path in ["src/main.py", "/srv/repo/README.md", "docs/..hidden.md", ".env.example", ".gitignore", "a/.github/workflows/ci.yml", "etc/passwd.md"] {
		hazard_paths.deny == set() with input.call.args as {"path": path}
	}
}
