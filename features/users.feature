@loop @docker @serial
Feature: A volume that somebody uses is not deleted
  Contract, section 4, promise 2, and section 3, promise 3: whoever uses it is named, nothing is changed, and when
  they have ended the same delete works. The containers are real, of a Docker engine of the scenario's own.

  Rule: Whoever refers to a volume or holds it is named

    Background:
      Given a Docker engine of its own
      And a running agent
      And a volume of 16 MiB at "used"
      And a file at "used/precious"

    Scenario Outline: A container <what>
      Given a directory "beside"
      And a link "alias" to "used"
      When container "db" <how> with "<bound>"
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names "container `db` (<state>)"
      And the volume at "used" is the same as before
      And the file "used/precious" is as it was
      When container "db" is removed
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And no volume is left

      Examples:
        | what                                  | how                    | bound           | state   |
        | that runs with the mount point        | runs                   | used            | running |
        | that is paused                        | is paused              | used            | running |
        | that starts again and again           | starts again and again | used            | running |
        | that has ended                        | has run                | used            | stopped |
        | that was never started                | was made               | used            | stopped |
        | that runs with a folder inside        | runs                   | used/inside     | running |
        | that has ended, with a folder inside  | has run                | used/inside     | stopped |
        | that was made with a link to it       | was made               | alias           | stopped |
        | that was made with another spelling   | was made               | beside/../used/ | stopped |

    Scenario: A container that is only stopped still needs the volume
      When container "db" runs with "used"
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names "container `db` (running) still uses it"
      When container "db" is stopped
      And the same job is sent with a new id
      Then it fails with "in-use"
      And its reason names "container `db` (stopped) still uses it"
      And the volume at "used" is the same as before

    Scenario: Another mount namespace
      When a program in a mount namespace of its own holds "used"
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names the program's mount namespace
      And the volume at "used" is the same as before
      And the file "used/precious" is as it was
      When the other mount namespace lets "used" go
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

    Scenario: A process with an open file
      When a program has the file "used/precious" open
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names the program
      And the volume at "used" is the same as before
      And the file "used/precious" is as it was
      When the program has ended
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

    Scenario: Something is mounted inside
      When something is mounted at "used/inside"
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names the mount at "used/inside"
      And the volume at "used" is the same as before
      And the file "used/precious" is as it was
      When what is mounted at "used/inside" is unmounted
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

    Scenario: All of them at once are all named
      When container "db" runs with "used"
      And container "cron" has run with "used/jobs"
      And something is mounted at "used/inside"
      And a program in a mount namespace of its own holds "used"
      And a delete job for "used" is sent
      Then it fails with "in-use"
      And its reason names "container `db` (running)" and "container `cron` (stopped)"
      And its reason names the mount at "used/inside"
      And its reason names the program's mount namespace
      When a program has the file "used/precious" open
      And the same job is sent with a new id
      Then it fails with "in-use"
      And its reason names "container `db` (running)" and "container `cron` (stopped)"
      And its reason names the mount at "used/inside"
      And its reason names the program
      And the volume at "used" is the same as before
      When container "db" is removed
      And container "cron" is removed
      And what is mounted at "used/inside" is unmounted
      And the programs have ended
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

    Scenario: Containers that have to do with other places prevent nothing
      Given a volume of 16 MiB at "used-too"
      When container "other" runs with "used-too"
      And container "ended" has run with "."
      And a delete job for "used-too" is sent
      Then it fails with "in-use"
      When container "other" is stopped
      And a delete job for "used" is sent
      Then it is answered PENDING and DONE, and nothing else
      And no volume is attached at "used"
      And a volume is attached at "used-too"

  Rule: A volume may lie where Docker keeps one of its own

    Scenario: What deployed senders do
      Given an engine of its own, and volumes may be mounted where it keeps its own
      And a running agent
      When container "deployed" was made with a volume that Docker keeps itself
      And a create job of 16 MiB for the place of that volume is sent
      Then it is answered PENDING and DONE, and nothing else
      When container "deployed" is started
      Then container "deployed" can write less than 32 MiB
      When a delete job for the place of that volume is sent
      Then it fails with "in-use"
      And its reason names "container `deployed` (running) still uses it"
      When container "deployed" is stopped
      And the same job is sent with a new id
      Then it fails with "in-use"
      And its reason names "container `deployed` (stopped) still uses it"
      When container "deployed" is removed, and its volumes stay
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

  Rule: Who only lists a volume does not hold it

    Scenario: A mount namespace that follows this one
      Given mounts are passed on to the mount namespaces that follow
      And a running agent
      And a volume of 16 MiB at "listed"
      When a program in a mount namespace that follows this one lists "listed"
      And a delete job for "listed" is sent
      Then it is answered PENDING and DONE, and nothing else
      And the mount namespace that follows no longer lists "listed"
      And nothing is left

  Rule: A running container that has a path bound would not see a volume there

    Scenario: Create at a path that a container has bound
      Given a Docker engine of its own
      And a running agent
      And a directory "early"
      When container "blind" runs with "early"
      And a create job of 16 MiB for "early" is sent
      Then it fails with "in-use"
      And its reason names "container `blind` (running)"
      And nothing is left
      When container "blind" is stopped
      And the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And a volume is attached at "early"

  Rule: An engine that is configured and does not answer is not taken for one without containers

    Scenario: Docker takes connections and never answers
      Given a Docker engine that never answers, which is given 1 s
      And a running agent
      When a create job of 16 MiB for "a" is sent
      Then it is answered PENDING and DONE, and nothing else
      And it took less than 10 s
      When somebody puts a file at "a/precious"
      And a delete job for "a" is sent
      Then it fails with "store-unavailable"
      And it took less than 10 s
      And its reason names "container engine `docker`" and "does not answer within 1 s"
      And its failure has a reason and a hint
      And the volume at "a" is the same as before
      And the file "a/precious" is as it was
      When one types "dvs check -b {broker} --state {state} --docker {docker} --engine-seconds 1"
      Then it prints "does not answer within 1 s"
      When the Docker engine answers
      And one types "dvs check -b {broker} --state {state} --docker {docker}"
      Then it prints "`{docker}` answers"
      When the same job is sent with a new id
      Then it is answered PENDING and DONE, and nothing else
      And nothing is left

    Scenario: Docker is configured in the file, and stops
      Given a Docker engine of its own
      And the configuration:
        """
        [engines]
        docker = "unix://{docker}"
        seconds = 2
        """
      And an agent with that configuration, and its broker in the environment
      And the agent starts
      And a volume of 16 MiB at "a"
      When container "db" was made with "a"
      And the Docker engine stops
      And a delete job for "a" is sent
      Then it fails with "store-unavailable"
      And its reason names "container engine `docker`"
      And a volume is attached at "a"
      When the Docker engine starts
      And the same job is sent with a new id
      Then it fails with "in-use"
      And its reason names "container `db` (stopped)"
      And a volume is attached at "a"

    Scenario: Podman's API is asked where it is configured
      Given an engine of its own that is asked as Podman
      And a running agent
      And a volume of 16 MiB at "a"
      When container "pod" was made with "a"
      And a delete job for "a" is sent
      Then it fails with "in-use"
      And its reason names "container `pod` (stopped)"
      And a volume is attached at "a"
